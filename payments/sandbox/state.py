"""One running sandbox: keys, a clock, the books, what is under way and what shall go wrong."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from payments.contract import Platform
from payments.sandbox.books import OrderBook
from payments.sandbox.faults import Faults, Kind
from payments.sandbox.files import Files
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.notices import Notices
from payments.sandbox.notifier import DELIVERIES_AT_ONCE, Later, Notifier, Post
from payments.sandbox.signing import Signer, Signing

_FLAWS = (Kind.WRONG_SIGNATURE, Kind.SIGNTEST)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take; a test hands in what suits it.

    Notices: pauses before each attempt. The real ones (WeChat Pay: 15 s, 15 s, 30 s, 3 min ... 6 h;
    Alipay: 4 m, 10 m, 10 m, 1 h, 2 h, 6 h, 15 h), the first through 30; a demo also tries soon.
    """

    wechat_notice_s: Sequence[float] = (0.0, 0.5, 0.5, 1.0, 6.0, 20.0, 40.0, *(60.0,) * 9)
    alipay_notice_s: Sequence[float] = (0, 1, 2, 5, 15, 60, 240, 600, 600, 3600, 7200, 21600, 54000)
    notices_at_once: int = DELIVERIES_AT_ONCE
    refund_s: float = 1.0  # from accepted to done
    refunds_apart: timedelta = timedelta(minutes=1)  # WeChat Pay: requests for one order


class Balances:
    """What the merchant has at each platform to give back from; unlimited unless told."""

    def __init__(self, orders: OrderBook) -> None:
        self._orders = orders
        self._beside: dict[Platform, int] = {}  # what is there beside what the book knows of

    def tell(self, platform: Platform, fen: int | None) -> None:
        """So much is there now (None: no end of it); payments and refunds move it."""
        if fen is None:
            self._beside.pop(platform, None)
        else:
            self._beside[platform] = fen - self._orders.net_fen(platform)

    def has(self, platform: Platform, fen: int) -> bool:
        """Whether so much can be given back."""
        beside = self._beside.get(platform)
        return beside is None or beside + self._orders.net_fen(platform) >= fen


@dataclass(slots=True)
class Sandbox:
    """One running sandbox, handed to every platform's `blueprint(sandbox)`."""

    public_url: str  # of the sandbox itself, without a slash at the end
    data: Path
    keys: SandboxKeys
    orders: OrderBook
    notifier: Notifier
    now: Callable[[], datetime]
    pace: Pace = field(default_factory=Pace)
    signing: Signing = field(init=False)
    later: Later = field(default_factory=Later)
    faults: Faults = field(default_factory=Faults)
    balances: Balances = field(init=False)
    notices: Notices = field(init=False)
    files: Files = field(default_factory=Files)
    refused_at: dict[tuple[str, ...], datetime] = field(default_factory=dict)  # refunds, by order

    def __post_init__(self) -> None:
        """Sign by the public keys, and send notices as they come, until told otherwise."""
        self.signing = Signing(self.keys)
        self.balances = Balances(self.orders)
        self.notices = Notices(self.notifier, self.later, self.faults, self.now)

    def signer(self, platform: Platform, call: str) -> Signer:
        """Who signs an answer to this call (or a notice) now; by a fault of the table, wrongly."""
        fault = self.faults.take(platform, call, _FLAWS)
        return self.signing.signer(platform, self.now(), fault.kind if fault else None)

    async def quiet(self, timeout_s: float = 10.0) -> None:
        """Wait until refunds are settled and notices taken or given up; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.later.count or self.notifier.count:
                await self.later.quiet()
                await self.notifier.quiet()

    async def aclose(self) -> None:
        """Stop what is under way, then close the books."""
        await self.later.aclose()
        await self.notifier.aclose()
        self.orders.close()


def open_sandbox(
    *,
    public_url: str,
    data: Path,
    keys: SandboxKeys,
    now: Callable[[], datetime] | None = None,
    pace: Pace | None = None,
    post: Post | None = None,
) -> Sandbox:
    """A sandbox with its books open; `now` is the machine's clock unless given."""
    clock, told = now or (lambda: datetime.now(UTC)), pace or Pace()
    return Sandbox(
        public_url=public_url.rstrip("/"),
        data=data,
        keys=keys,
        orders=OrderBook(data / "orders.sqlite"),
        notifier=Notifier(clock, told.notices_at_once, post),
        now=clock,
        pace=told,
    )
