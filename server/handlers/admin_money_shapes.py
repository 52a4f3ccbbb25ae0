"""What the managers' API takes and answers about money by hand and second persons."""

from typing import Annotated, Literal

import msgspec

from server.handlers.admin_api_shapes import PREFIX, SITE, Reason, Time
from server.http.openapi import Operation, Parameter
from server.services.approvals import Status
from server.services.desk import RECEIPT_NO_MAX

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
Wallet = Literal["electricity", "fixed_charges"]


class DeskPaid(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/desk-payments."""

    amount_fen: int
    method: Literal["cash", "bank_transfer"]
    receipt_no: Annotated[
        str, msgspec.Meta(min_length=1, max_length=RECEIPT_NO_MAX, pattern=PRINTABLE)
    ]
    wallet: Wallet = "electricity"


class WithReason(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/desk-payments/{receipt_no}/reversal."""

    reason: Reason


class Adjust(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/adjustments; below zero takes from the wallet."""

    amount_fen: int
    reason: Reason
    wallet: Wallet = "electricity"


class Verdict(msgspec.Struct, forbid_unknown_fields=True):
    """POST /approvals/{no}; no body at all approves."""

    decision: Literal["approve", "reject"] = "approve"
    reason: Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")] = ""


class Posted(msgspec.Struct):
    """Done: the journal's transaction; the same again answers the same."""

    transaction_id: int


class Asked(msgspec.Struct):
    """A second person is needed: POST /approvals/{no}."""

    approval_no: str


class ApprovalShown(msgspec.Struct):
    """`act` is all that will be, or was, done."""

    approval_no: str
    site: str
    kind: str
    status: Status
    act: dict[str, str | int]
    asked_by: str
    asked_at: Time
    expires_at: Time
    decided_by: str | None
    decided_at: Time | None
    reason: str | None


class ApprovalsShown(msgspec.Struct):
    """Those that wait first, then the newest; 100 at most."""

    items: list[ApprovalShown]
    next_cursor: None = None


_KEY = Parameter(
    "Idempotency-Key",
    str,
    "1 to 255 printable characters, new for each adjustment; without it the same adjustment by "
    "the same manager within 60 s is the same one",
    needed=False,
)

OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/desk-payments",
        summary="Take cash or a bank transfer, once a receipt number",
        tag="manager",
        status=201,
        body=DeskPaid,
        answer=Posted,
        others={202: Asked},
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/desk-payments/{{receipt_no}}/reversal",
        summary="Ask a second person to take a desk payment back",
        tag="manager",
        status=202,
        body=WithReason,
        answer=Asked,
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/adjustments",
        summary="Change a wallet by hand",
        tag="manager",
        status=201,
        body=Adjust,
        answer=Posted,
        others={202: Asked},
        query=(SITE,),
        headers=(_KEY,),
        problems=(403, 409),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/approvals",
        summary="What waits for a second person, and what became of the rest",
        tag="manager",
        answer=ApprovalsShown,
        query=(SITE,),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/approvals/{{no}}",
        summary="One asking, with all that it will do",
        tag="manager",
        answer=ApprovalShown,
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/approvals/{{no}}",
        summary="Approve or reject what somebody else asked for",
        tag="manager",
        body=Verdict,
        answer=ApprovalShown,
        problems=(403, 409),
    ),
)
