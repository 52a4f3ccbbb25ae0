"""What is done about each difference, as a table: the question, the cure, and the case if it stays.

Nothing here takes money back: where the platform denies a payment, a person decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from server.core.reconciliation.compare import BillLine, Difference, Finding, OurLine
from server.core.refunds.cases import CaseKind


class Question(StrEnum):
    """What the platform is asked, beside its bill."""

    NONE = "none"
    TRADE = "trade"
    REFUND = "refund"


class Answer(StrEnum):
    """Whom the platform's answer bears out; the value is stored."""

    NOT_ASKED = "not_asked"
    UNANSWERED = "unanswered"
    AS_BILLED = "as_billed"
    AS_BOOKED = "as_booked"
    NEITHER = "neither"
    REFUSED = "refused"  # it will not say, such as of another till's number


class Act(StrEnum):
    """What cures by itself, by the function that does it on every other day."""

    NOTHING = "nothing"
    CREDIT = "credit"  # as a notice or a query would have
    SETTLE = "settle"  # as the refunds' worker does
    TELL = "tell"  # as a notice of a refund that nobody here asked for


@dataclass(frozen=True, slots=True)
class Cure:
    """`act` is done after an answer of `act_on`; `cases` show a person what stays all the same.

    Of an answer in `patient` the case waits for the next day's bill: seconds around midnight put a
    line on another day.
    """

    question: Question
    act: Act
    act_on: frozenset[Answer]
    cases: Mapping[Answer, CaseKind]
    patient: frozenset[Answer] = frozenset()


_A = Answer
_SAID = (_A.AS_BILLED, _A.AS_BOOKED, _A.NEITHER)
_PATIENT = frozenset({_A.AS_BOOKED, _A.REFUSED})


def _always(kind: CaseKind) -> dict[Answer, CaseKind]:
    return dict.fromkeys((_A.NOT_ASKED, *_SAID, _A.REFUSED), kind)


CURES: Mapping[Finding, Cure] = MappingProxyType(
    {
        Finding.MISSING_HERE: Cure(
            *(Question.TRADE, Act.CREDIT, frozenset({_A.AS_BILLED})),
            _always(CaseKind.UNBOOKED_PAYMENT),
        ),
        Finding.MISSING_THERE: Cure(
            *(Question.TRADE, Act.NOTHING, frozenset()),
            _always(CaseKind.CREDITED_WITHOUT_PAYMENT)
            | dict.fromkeys(_PATIENT, CaseKind.PAYMENT_NOT_ON_BILL),
            _PATIENT,
        ),
        Finding.OTHER_AMOUNT: Cure(
            *(Question.NONE, Act.NOTHING, frozenset()),
            _always(CaseKind.PAYMENT_BILLED_OTHERWISE),
        ),
        Finding.REFUND_HERE_ONLY: Cure(
            *(Question.REFUND, Act.SETTLE, frozenset(_SAID)),
            _always(CaseKind.REFUND_NOT_ON_BILL),
            _PATIENT,
        ),
        Finding.REFUND_THERE_ONLY: Cure(
            *(Question.NONE, Act.TELL, frozenset({_A.NOT_ASKED})),
            _always(CaseKind.REFUNDED_OUTSIDE),
        ),
        Finding.REFUND_OTHER_AMOUNT: Cure(
            *(Question.REFUND, Act.SETTLE, frozenset(_SAID)),
            _always(CaseKind.REFUND_BILLED_OTHERWISE),
        ),
        Finding.REFUND_OTHER_STATE: Cure(
            *(Question.REFUND, Act.SETTLE, frozenset(_SAID)),
            _always(CaseKind.REFUND_BILLED_OTHERWISE),
        ),
    }
)
# Cases that only a comparison opens, and that end by themselves once both sides agree.
OWN_CASES = frozenset(
    {
        CaseKind.UNBOOKED_PAYMENT,
        CaseKind.CREDITED_WITHOUT_PAYMENT,
        CaseKind.PAYMENT_NOT_ON_BILL,
        CaseKind.PAYMENT_BILLED_OTHERWISE,
        CaseKind.REFUND_NOT_ON_BILL,
        CaseKind.REFUND_BILLED_OTHERWISE,
    }
)


def case_of(finding: Finding, answer: Answer, *, next_bill_known: bool) -> CaseKind | None:
    """The case of a difference that stays; None: it is looked at again later."""
    cure = CURES[finding]
    if answer in cure.patient and not next_bill_known:
        return None
    return cure.cases.get(answer)


@dataclass(frozen=True, slots=True)
class Told:
    """What a platform says of one payment or refund; `amount_fen` None: it does not say.

    `is_there`: money went that way, or is about to.
    """

    is_there: bool
    number: str | None = None
    amount_fen: int | None = None


def answer_of(difference: Difference, told: Told) -> Answer:
    """Whom it bears out; where both sides have the line, by its amount."""
    bill, ours = difference.bill, difference.ours
    if bill is None:
        return _bears_out(told, ours, _A.AS_BOOKED, _A.AS_BILLED)
    if ours is None:
        return _bears_out(told, bill, _A.AS_BILLED, _A.AS_BOOKED)
    if told.is_there and told.amount_fen == ours.amount_fen:
        return _A.AS_BOOKED
    return _A.AS_BILLED if told.is_there and told.amount_fen == bill.amount_fen else _A.NEITHER


def _bears_out(
    told: Told, line: OurLine | BillLine | None, if_so: Answer, if_not: Answer
) -> Answer:
    if not told.is_there or line is None:
        return if_not
    same = told.number in {None, line.number} and told.amount_fen in {None, line.amount_fen}
    return if_so if same else _A.NEITHER
