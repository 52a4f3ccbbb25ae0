"""A top-up as its payer sees it: its ticks, and by what it can be paid now."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from payments.contract import Method
from server.core.errors import NotFoundError
from server.core.top_ups.states import AttemptState, TopUpStatus
from server.models.database import Row, from_json, pool, row, rows
from server.services.wallets import WALLETS

# A platform's own object may live shorter than our order: WeChat's H5 link does (5 minutes)
H5_LINK_LIFE = timedelta(minutes=4)
TOP_UP = "SELECT * FROM top_up WHERE no = $1"
ATTEMPTS = """
SELECT method, state, payment, payment_at FROM payment_order WHERE top_up_id = $1 ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Payable:
    """What the payer was given for one method, and until when it serves."""

    method: Method
    payment: dict[str, str]
    good_until: datetime


@dataclass(frozen=True, slots=True)
class TopUpView:
    """A top-up as its payer sees it; the four times are its ticks.

    `method`: by which it was paid, else the last that was tried.
    """

    top_up_no: str
    tenancy_id: int
    status: str
    wallet: str
    amount_fen: int
    refunded_fen: int
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    credited_at: datetime | None
    commanded_at: datetime | None
    confirmed_at: datetime | None
    method: Method | None = None
    payables: tuple[Payable, ...] = ()

    @property
    def payment(self) -> dict[str, str] | None:
        """The newest payment object, if there is one."""
        return self.payables[-1].payment if self.payables else None

    def at(self, now: datetime) -> "TopUpView":
        """The same without what cannot be paid by any more."""
        good = tuple(one for one in self.payables if now < one.good_until)
        return replace(self, payables=good)


async def find_top_up(no: str) -> TopUpView:
    """A top-up by its number; raises NotFoundError."""
    found = await row(pool(), TOP_UP, no[:32])
    if found is None:
        raise NotFoundError("no such top-up")
    return _view(found, await rows(pool(), ATTEMPTS, found["id"]))


def good_until(method: Method, payment_at: datetime, expires_at: datetime) -> datetime:
    """Until when a payment object may be handed out."""
    if method is Method.WECHAT_H5:
        return min(expires_at, payment_at + H5_LINK_LIFE)
    return expires_at


def _view(found: Row, attempts: list[Row]) -> TopUpView:
    names = {kind.value: name for name, kind in WALLETS.items()}
    paid = [one["method"] for one in attempts if one["state"] == AttemptState.PAID]
    methods = paid[:1] or [one["method"] for one in attempts[-1:]]
    return TopUpView(
        top_up_no=found["no"],
        tenancy_id=found["tenancy_id"],
        status=found["status"],
        wallet=names[found["wallet"]],
        amount_fen=found["amount_fen"],
        refunded_fen=found["refunded_fen"],
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        paid_at=found["paid_at"],
        credited_at=found["credited_at"],
        commanded_at=found["commanded_at"],
        confirmed_at=found["confirmed_at"],
        method=Method(methods[0]) if methods else None,
        payables=_payables(found, attempts),
    )


def _payables(found: Row, attempts: list[Row]) -> tuple[Payable, ...]:
    if found["status"] != TopUpStatus.PENDING:
        return ()
    return tuple(
        Payable(method, from_json(one["payment"]), until)
        for one in attempts
        if one["state"] == AttemptState.WAITING and one["payment"] is not None
        for method in [Method(one["method"])]
        for until in [good_until(method, one["payment_at"], found["expires_at"])]
    )
