"""What goes wrong when a test says so: a table of faults, each counted down as it happens."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from payments.contract import Platform

FAULTS_MAX = 1_000
TIMES_MAX = 1_000_000
SECONDS_MAX = 60.0
ANY = "*"


class Kind(StrEnum):
    """What can go wrong."""

    RATE_LIMITED = "rate_limited"  # 429, with Retry-After: `seconds`; nothing happened
    SERVER_ERROR = "server_error"  # 500, nothing happened
    SERVER_ERROR_AFTER = "server_error_after"  # 500, and it happened
    DROPPED = "dropped"  # the connection breaks, nothing happened
    DROPPED_AFTER = "dropped_after"  # the connection breaks, and it happened
    SLOW = "slow"  # answered `seconds` later
    NOTICE_LOST = "notice_lost"  # never sent, and thought to be taken
    NOTICE_DELAYED = "notice_delayed"  # sent `seconds` later
    NOTICE_REPEATED = "notice_repeated"  # sent once more after it was taken
    NOTICE_REORDERED = "notice_reordered"  # held until another one of the platform has ended
    NOTICE_UNPAID = "notice_unpaid"  # one that says unpaid comes before the one that says paid
    CLOSE_RACED = "close_raced"  # closed, and a payment under way lands afterwards
    REFUND_RETURNED = "refund_returned"  # told as given back, then sent back by the bank
    QUERY_UNPAID = "query_unpaid"  # a query says unpaid of what was paid, and told
    WRONG_SIGNATURE = "wrong_signature"  # an answer or a notice that does not prove itself
    SIGNTEST = "signtest"  # WeChat Pay's probe: a signature that says it is none
    REFUND_CLOSED = "refund_closed"  # accepted, then CLOSED
    REFUND_ABNORMAL = "refund_abnormal"  # accepted, then ABNORMAL
    REFUND_STUCK = "refund_stuck"  # accepted, and PROCESSING until the control settles it
    BILL_MISSING = "bill_missing"  # the day's first payment is not on the bill
    BILL_EXTRA = "bill_extra"  # a payment stands on the bill that nobody knows
    BILL_AMOUNT = "bill_amount"  # the day's first line has a fen more
    BILL_REFUND_MISSING = "bill_refund_missing"  # the day's first refund is not on the bill
    BILL_HASH = "bill_hash"  # not what its hash says (Alipay: its zip is damaged)
    BILL_SUMMARY = "bill_summary"  # its summary is a fen off


class BadFaultError(ValueError):
    """A row of the table that cannot be."""


@dataclass(slots=True)
class Fault:
    """One row: happens `times` more times to this call of this platform."""

    platform: Platform
    kind: Kind
    call: str = ANY
    times: int = 1
    seconds: float = 0.0


class Faults:
    """The table. The oldest row that fits happens first."""

    def __init__(self) -> None:
        self._rows: list[Fault] = []

    def add(self, *rows: Fault) -> None:
        """Append rows, all or none; raises BadFaultError."""
        if len(self._rows) + len(rows) > FAULTS_MAX:
            raise BadFaultError(f"no more than {FAULTS_MAX} faults at once")
        for row in rows:
            if not 1 <= row.times <= TIMES_MAX:
                raise BadFaultError(f"times is 1 to {TIMES_MAX}")
            if not 0 <= row.seconds <= SECONDS_MAX:
                raise BadFaultError(f"seconds are 0 to {SECONDS_MAX:g}")
        self._rows.extend(rows)

    def rows(self) -> tuple[Fault, ...]:
        """What is still to happen, oldest first."""
        return tuple(self._rows)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rows.clear()

    def take(self, platform: Platform, call: str, kinds: Iterable[Kind]) -> Fault | None:
        """The fault that happens to this call now, counted; None where all is well."""
        if not self._rows:
            return None
        wanted = frozenset(kinds)
        for row in self._rows:
            if row.platform is platform and row.call in {ANY, call} and row.kind in wanted:
                row.times -= 1
                if row.times == 0:
                    self._rows.remove(row)
                return row
        return None
