"""Our lines of a day against a bill's: each line in exactly one class, whatever stands on either.

A bill is a look at the day from the next morning, so a refund here may be further than on the bill.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from server.core.refunds.parts import PartState


class Way(StrEnum):
    """Which way money went."""

    PAYMENT = "payment"
    REFUND = "refund"


class Billed(StrEnum):
    """What a bill says of a refund; the values are those of the platforms' contract."""

    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CLOSED = "closed"  # nothing was given back
    ABNORMAL = "abnormal"


class Kind(StrEnum):
    """The four kinds of difference."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    AMOUNT = "amount"
    REFUND = "refund"


class Finding(StrEnum):
    """A difference more exactly; the value is stored."""

    MISSING_HERE = "missing_here"  # on the bill, and never credited
    MISSING_THERE = "missing_there"  # credited, and on no bill
    OTHER_AMOUNT = "other_amount"
    REFUND_HERE_ONLY = "refund_here_only"
    REFUND_THERE_ONLY = "refund_there_only"  # nobody here asked for it
    REFUND_OTHER_AMOUNT = "refund_other_amount"
    REFUND_OTHER_STATE = "refund_other_state"

    @property
    def kind(self) -> Kind:
        """Which of the four kinds it is of."""
        if self is Finding.OTHER_AMOUNT:
            return Kind.AMOUNT
        return Kind.REFUND if self.value.startswith("refund_") else Kind(self.value)


@dataclass(frozen=True, slots=True)
class OurLine:
    """What the books have: `number` is the platform's of a payment, our own of a refund.

    `is_due`: it should stand on this very bill. `is_recorded`: a refund that a person wrote down,
    so that the platform may know it by another number. `state` only of a refund.
    """

    way: Way
    number: str
    out_trade_no: str
    amount_fen: int
    state: PartState | None = None
    is_due: bool = True
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class BillLine:
    """What the bill has; `state` only of a refund."""

    way: Way
    number: str
    out_trade_no: str
    amount_fen: int
    state: Billed | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The same money on both sides."""

    ours: OurLine
    bill: BillLine


@dataclass(frozen=True, slots=True)
class Difference:
    """One line that stands alone, or two that contradict each other."""

    finding: Finding
    ours: OurLine | None = None
    bill: BillLine | None = None

    @property
    def line(self) -> OurLine | BillLine:
        """The line that names it: the bill's, if there is one."""
        line = self.bill or self.ours
        assert line is not None  # noqa: S101  `compare` makes none without a line
        return line


@dataclass(frozen=True, slots=True)
class Sums:
    """How often and how much money came and went back."""

    payments: int = 0
    payments_fen: int = 0
    refunds: int = 0
    refunds_fen: int = 0

    @property
    def net_fen(self) -> int:
        """What is left at the platform."""
        return self.payments_fen - self.refunds_fen


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every line of both sides, once."""

    agreed: Sequence[Match]
    differences: Sequence[Difference]
    idle: Sequence[BillLine]  # refunds that never were, and that nobody here knows
    elsewhere: Sequence[OurLine]  # on another day's bill
    not_due: Sequence[OurLine]  # nobody expects them on this bill

    @property
    def bill_sums(self) -> Sums:
        """The bill's side, without refunds that came to nothing."""
        alone = [one.bill for one in self.differences if one.bill is not None]
        return _sums([*(one.bill for one in self._moved()), *alone])

    @property
    def our_sums(self) -> Sums:
        """Our side of the same day."""
        alone = [one.ours for one in self.differences if one.ours is not None]
        return _sums([*(one.ours for one in self._moved()), *alone])

    def _moved(self) -> list[Match]:
        return [one for one in self.agreed if one.ours.state not in CAME_TO_NOTHING]


CAME_TO_NOTHING = frozenset({PartState.FAILED, PartState.REPLACED})

# What a refund may be here, by what the bill says: the same, or what became of it since.
_S = PartState
COMPATIBLE: Mapping[Billed, frozenset[PartState]] = MappingProxyType(
    {
        Billed.SUCCEEDED: frozenset({_S.DONE}),
        Billed.PROCESSING: frozenset({_S.PROCESSING, _S.ABNORMAL, _S.DONE, _S.FAILED, _S.REPLACED}),
        Billed.ABNORMAL: frozenset({_S.ABNORMAL, _S.DONE, _S.FAILED, _S.REPLACED}),
        Billed.CLOSED: CAME_TO_NOTHING,
    }
)


def compare(
    ours: Iterable[OurLine], bill: Iterable[BillLine], elsewhere: Collection[str] = ()
) -> Comparison:
    """Match line by line; `elsewhere` are our numbers that other days' bills have."""
    waiting: dict[tuple[Way, str], list[OurLine]] = {}
    for mine in ours:
        waiting.setdefault((mine.way, mine.number), []).append(mine)
    pairs, strange = _pairs(waiting, bill)
    left = [mine for lines in waiting.values() for mine in lines]
    recorded, left = _recorded(left)
    pairs, given_up = _in_place_of_given_up(pairs, recorded)
    more, strange = _recorded_pairs(strange, recorded)
    left += [*given_up, *(mine for lines in recorded.values() for mine in lines)]
    agreed, differences, idle = [], [], []
    for pair in (*pairs, *more):
        finding = _finding(pair)
        if finding is None:
            agreed.append(pair)
        else:
            differences.append(Difference(finding, pair.ours, pair.bill))
    for theirs in strange:
        if theirs.state is Billed.CLOSED:
            idle.append(theirs)
        else:
            differences.append(Difference(_HERE_NOT[theirs.way], bill=theirs))
    found_elsewhere = [mine for mine in left if mine.is_due and mine.number in elsewhere]
    alone = [mine for mine in left if mine.is_due and mine.number not in elsewhere]
    differences += [Difference(_THERE_NOT[mine.way], ours=mine) for mine in alone]
    not_due = [mine for mine in left if not mine.is_due]
    return Comparison(agreed, differences, idle, found_elsewhere, not_due)


_HERE_NOT = {Way.PAYMENT: Finding.MISSING_HERE, Way.REFUND: Finding.REFUND_THERE_ONLY}
_THERE_NOT = {Way.PAYMENT: Finding.MISSING_THERE, Way.REFUND: Finding.REFUND_HERE_ONLY}


def _pairs(
    waiting: dict[tuple[Way, str], list[OurLine]], bill: Iterable[BillLine]
) -> tuple[list[Match], list[BillLine]]:
    """By number, each line once: a bill's second line of one number is strange."""
    pairs, strange = [], []
    for theirs in bill:
        mine = waiting.get((theirs.way, theirs.number))
        if mine:
            pairs.append(Match(mine.pop(), theirs))
        else:
            strange.append(theirs)
    return pairs, strange


# What a person wrote down, by payment and amount: its number may be ours alone.
_Recorded = dict[tuple[str, int], list[OurLine]]


def _recorded(left: Iterable[OurLine]) -> tuple[_Recorded, list[OurLine]]:
    recorded: _Recorded = {}
    others = []
    for mine in left:
        if mine.way is Way.REFUND and mine.is_recorded:
            recorded.setdefault((mine.out_trade_no, mine.amount_fen), []).append(mine)
        else:
            others.append(mine)
    return recorded, others


def _take(recorded: _Recorded, theirs: BillLine) -> OurLine | None:
    if theirs.way is not Way.REFUND or theirs.state is Billed.CLOSED:
        return None
    lines = recorded.get((theirs.out_trade_no, theirs.amount_fen))
    return lines.pop() if lines else None


def _in_place_of_given_up(
    pairs: Iterable[Match], recorded: _Recorded
) -> tuple[list[Match], list[OurLine]]:
    """What was given up here and went back after all was recorded by another number."""
    settled, given_up = [], []
    for pair in pairs:
        is_denied = pair.ours.state in CAME_TO_NOTHING and _finding(pair) is not None
        instead = _take(recorded, pair.bill) if is_denied else None
        settled.append(pair if instead is None else Match(instead, pair.bill))
        if instead is not None:
            given_up.append(pair.ours)
    return settled, given_up


def _recorded_pairs(
    strange: Iterable[BillLine], recorded: _Recorded
) -> tuple[list[Match], list[BillLine]]:
    pairs, alone = [], []
    for theirs in strange:
        mine = _take(recorded, theirs)
        if mine is not None:
            pairs.append(Match(mine, theirs))
        else:
            alone.append(theirs)
    return pairs, alone


def _finding(pair: Match) -> Finding | None:
    ours, bill = pair.ours, pair.bill
    same = ours.amount_fen == bill.amount_fen
    if bill.way is Way.PAYMENT:
        return None if same else Finding.OTHER_AMOUNT
    if not same:
        return Finding.REFUND_OTHER_AMOUNT
    if bill.state is None or ours.state in COMPATIBLE[bill.state]:
        return None
    return Finding.REFUND_OTHER_STATE


def _sums(lines: Iterable[OurLine | BillLine]) -> Sums:
    counted = list(lines)
    paid = [one.amount_fen for one in counted if one.way is Way.PAYMENT]
    returned = [one.amount_fen for one in counted if one.way is Way.REFUND]
    return Sums(len(paid), sum(paid), len(returned), sum(returned))
