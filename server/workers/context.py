"""What loops are handed by server/app.py instead of reaching for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from server.channels.contract import MessageChannel, ShippingDesk
from server.services.platforms import PlatformDirectory
from server.services.wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class WorkContext:
    """The clock and the outside world of one worker process; channels by name.

    `public_url` is where the platforms' notices reach us.
    """

    clock: Callable[[], datetime]
    platforms: PlatformDirectory
    channels: Mapping[str, MessageChannel]
    wakeups: Wakeups
    public_url: str = "http://127.0.0.1:8000"
    shipping: ShippingDesk | None = None
