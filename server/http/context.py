"""What doors are handed by server/app.py instead of reaching for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from server.channels.contract import LoginProvider
from server.services.platforms import PlatformDirectory
from server.services.wakeups import Wakeups
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class WebContext:
    """The clock and the outside world of one web process; `login` None: mini-program off."""

    settings: Settings
    clock: Callable[[], datetime]
    platforms: PlatformDirectory
    login: LoginProvider | None
    wakeups: Wakeups
