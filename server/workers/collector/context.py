"""What a collector is handed by server/app.py, and its durations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from server.devices.profiles import Profile
from server.services.leases import HELD_S
from server.services.wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Who is silent for `close_after_s` speaks no more; others may speak after `held_s`."""

    held_s: float = HELD_S
    close_after_s: float = 5.0
    renew_every_s: float = 2.0


@dataclass(frozen=True, slots=True)
class CollectContext:
    """The clock and the outside world of one collector; `dtu_listen` None: no DTU dials in here."""

    clock: Callable[[], datetime]
    wakeups: Wakeups
    catalogue: Mapping[str, Profile]
    dtu_listen: tuple[str, int] | None
    owner: str
    leases: LeaseTimes = LeaseTimes()
    gateways_max: int = 1_000
