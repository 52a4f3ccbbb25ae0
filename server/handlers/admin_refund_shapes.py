"""What the managers' API takes and answers about refunds and cases."""

from typing import Annotated, Literal

import msgspec

from server.core.refunds.cases import CaseDecision
from server.core.refunds.parts import PartState
from server.handlers.admin_api_shapes import PREFIX, SITE, Reason, Time
from server.handlers.admin_money_shapes import PRINTABLE, Asked, Wallet
from server.http.openapi import Operation, Parameter
from server.services.refund_payouts import REFERENCE_MAX


class RefundWanted(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/refunds; `tenancy_id` where it is one that has ended, and is settled."""

    amount_fen: int
    reason: Reason
    wallet: Wallet = "electricity"
    tenancy_id: Annotated[int, msgspec.Meta(ge=1, le=10**18)] | None = None


class PartPaidOut(msgspec.Struct, forbid_unknown_fields=True):
    """POST /refunds/{no}/payouts: this part was paid out by hand."""

    out_refund_no: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    method: Literal["cash", "bank_transfer"]
    reference: Annotated[
        str, msgspec.Meta(min_length=1, max_length=REFERENCE_MAX, pattern=PRINTABLE)
    ]


class CaseVerdict(msgspec.Struct, forbid_unknown_fields=True):
    """POST /cases/{number}; `shop` and `wallet` only to credit.

    `amount_fen` only to record what went back outside, where the platform does not say how much.
    """

    decision: CaseDecision
    reason: Reason
    shop: Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=PRINTABLE)] | None = None
    wallet: Wallet = "electricity"
    amount_fen: Annotated[int, msgspec.Meta(ge=1, le=10**11)] | None = None


class RefundAsked(msgspec.Struct):
    """The money has left the wallet and is on its way; the same again answers the same."""

    refund_no: str


class PartShown(msgspec.Struct):
    """One part; `platform` null: paid out by hand. `code` is the platform's last refusal."""

    out_refund_no: str
    amount_fen: int
    state: PartState
    platform: str | None
    out_trade_no: str | None
    attempts: int
    finished_at: Time | None
    code: str | None
    method: str | None
    reference: str | None
    paid_by: str | None


class RefundShown(msgspec.Struct):
    """A refund with its parts; `wallet` null: a payment in suspense goes back to its payer."""

    refund_no: str
    site: str
    shop: str | None
    wallet: str | None
    amount_fen: int
    reason: str
    asked_by: str
    approval_no: str | None
    status: Literal["waiting", "rejected", "expired", "in_progress", "done", "partly", "failed"]
    asked_at: Time
    finished_at: Time | None
    parts: list[PartShown]


class RefundsShown(msgspec.Struct):
    """The newest; 100 at most."""

    items: list[RefundShown]
    next_cursor: None = None


class CaseShown(msgspec.Struct):
    """A payment that needs a person; `choices` are what may be decided now.

    `decision` may also be `agreed`: nobody decided, a later look found nothing left to decide.
    """

    id: int
    site: str
    shop: str | None
    kind: str
    facts: dict[str, str | int | None]
    suspended_fen: int | None
    choices: list[CaseDecision]
    opened_at: Time
    decision: str | None
    decided_by: str | None
    decided_at: Time | None
    reason: str | None
    closed_at: Time | None


class CasesShown(msgspec.Struct):
    """Open ones first, then the newest; 100 at most."""

    items: list[CaseShown]
    next_cursor: None = None


_KEY = Parameter(
    "Idempotency-Key",
    str,
    "1 to 255 printable characters, new for each refund; without it the same refund by the same "
    "manager within 60 s is the same one",
    needed=False,
)
_CASE_STATE = Parameter("state", Literal["open", "closed", "all"], "open", needed=False)
_REFUND_STATE = Parameter(
    "state", Literal["open", "all"], "open: not ended yet; all is the default", needed=False
)

OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/refunds",
        summary="Give money of a wallet back, to its payments first and the rest by hand",
        tag="manager",
        status=201,
        body=RefundWanted,
        answer=RefundAsked,
        others={202: Asked},
        query=(SITE,),
        headers=(_KEY,),
        problems=(403, 409),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/refunds",
        summary="Refunds with the state of each part",
        tag="manager",
        answer=RefundsShown,
        query=(SITE, _REFUND_STATE),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/refunds/{{no}}",
        summary="One refund",
        tag="manager",
        answer=RefundShown,
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/refunds/{{no}}/payouts",
        summary="Mark a part as paid out by hand",
        tag="manager",
        status=201,
        body=PartPaidOut,
        answer=RefundShown,
        others={202: Asked},
        problems=(403, 409),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/cases",
        summary="Payments that need a person",
        tag="manager",
        answer=CasesShown,
        query=(SITE, _CASE_STATE),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/cases/{{number}}",
        summary="One case, with what may be decided",
        tag="manager",
        answer=CaseShown,
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/cases/{{number}}",
        summary="Decide a case",
        tag="manager",
        status=200,
        body=CaseVerdict,
        answer=CaseShown,
        others={202: Asked},
        problems=(403, 409),
    ),
)
