"""What `mallwatt reconcile` does and says: one day of every merchant, in lines or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from server.core.errors import InvalidInputError, NotFoundError
from server.core.money import yuan_text
from server.core.reconciliation.compare import Sums
from server.core.reconciliation.days import is_over
from server.services.announce import announce_tenancies
from server.services.platforms import PlatformDirectory
from server.services.reconciliation import Clock, reconcile_day
from server.services.reconciliation_days import Merchant, merchants
from server.services.reconciliation_views import DayView, DifferenceView, days_of
from server.services.sites import find_site
from server.services.wakeups import Wakeups

AGREED, DIFFERS, NOT_COMPARED = 0, 1, 2  # exit statuses
PROBLEMS = {
    "no_merchant": "its keys cannot be used",
    "not_ready": "the platform has not made the bill yet: try later",
    "unsound": "the bill contradicts itself, and nothing of it is believed",
    "unavailable": "the platform does not answer: try again",
    "unanswered": "the platform did not answer every question: try again",
}
OUTCOMES = {
    "cured": "cured",
    "decided": "decided by a manager",
    "waiting": "waits for the next day's bill, or an answer",
}


@dataclass(frozen=True, slots=True)
class MerchantReport:
    """One merchant's day; `problem` where it could not be compared whole."""

    merchant: Merchant
    problem: str | None
    seen: DayView | None

    @property
    def status(self) -> int:
        """Its part of the exit status."""
        if self.problem is not None or self.seen is None:
            return NOT_COMPARED
        return DIFFERS if self.seen.open_count else AGREED


@dataclass(frozen=True, slots=True)
class Report:
    """All merchants that were asked for."""

    day: date
    merchants: Sequence[MerchantReport]

    @property
    def status(self) -> int:
        """0: all agree; 1: differences remain; 2: a day was not compared whole."""
        return max(one.status for one in self.merchants)

    def lines(self) -> Iterator[str]:
        """For people."""
        for one in self.merchants:
            yield from _lines(self.day, one)

    def as_json(self) -> Mapping[str, object]:
        """For programs."""
        found = [_as_json(one) for one in self.merchants]
        return {"day": self.day, "agreed": self.status == AGREED, "merchants": found}


async def report(
    day: date, site_code: str | None, platforms: PlatformDirectory, wakeups: Wakeups, clock: Clock
) -> Report:
    """Compare a day of every merchant (of one mall) now; raises InvalidInputError, NotFoundError.

    The former for a day that is not over, the latter where there is no mall or merchant.
    """
    if not is_over(day, clock()):
        raise InvalidInputError(f"{day} is not over in China")
    site_id = await find_site(site_code) if site_code is not None else None
    found = await merchants(site_id)
    if not found:
        raise NotFoundError("no merchant: nothing to compare")
    reports = []
    for merchant in found:
        result = await reconcile_day(merchant, day, platforms, clock)
        await announce_tenancies(wakeups, result.tenancies)
        days = await days_of(merchant, day, day + timedelta(days=1))
        reports.append(MerchantReport(merchant, result.problem, days.get(day)))
    return Report(day, reports)


def _lines(day: date, one: MerchantReport) -> Iterator[str]:
    head = f"{one.merchant.platform.value} {one.merchant.merchant_id} {day}:"
    seen = one.seen
    if one.problem is not None:
        yield f"{head} not compared: {PROBLEMS.get(one.problem, one.problem)}"
    elif seen is not None and seen.bill is not None and seen.ours is not None:
        words = f"{seen.open_count} open differences" if seen.open_count else "agrees"
        yield f"{head} {words}; bill {_sums_text(seen.bill)}; books {_sums_text(seen.ours)}"
    if seen is not None:
        yield from (f"  {_difference_text(difference)}" for difference in seen.differences)


def _sums_text(sums: Sums) -> str:
    paid, back = yuan_text(sums.payments_fen), yuan_text(sums.refunds_fen)
    return f"{sums.payments} payments {paid}, {sums.refunds} refunds {back}"


def _difference_text(one: DifferenceView) -> str:
    sides = [
        f"{name} {yuan_text(fen)}{f' {state}' if state else ''}" if fen is not None else None
        for name, fen, state in (
            ("bill", one.bill_fen, one.bill_state),
            ("books", one.our_fen, one.our_state),
        )
    ]
    amounts = ", ".join(side for side in sides if side is not None)
    outcome = OUTCOMES.get(one.outcome, f"case {one.case_id} of {one.site_code}")
    if one.outcome == "cured" and one.cured_by.value != "nothing":
        outcome = f"cured ({one.cured_by.value})"
    return (
        f"{one.kind.value} ({one.finding.value}) {one.number} of order {one.out_trade_no}:"
        f" {amounts}; the platform: {one.answer}; {outcome}"
    )


def _as_json(one: MerchantReport) -> Mapping[str, object]:
    seen = one.seen
    return {
        "platform": one.merchant.platform.value,
        "merchant_id": one.merchant.merchant_id,
        "state": seen.state if seen is not None else "pending",
        "problem": one.problem,
        "bill": seen.bill if seen is not None else None,
        "books": seen.ours if seen is not None else None,
        "differences": [_difference_json(two) for two in (seen.differences if seen else ())],
    }


def _difference_json(one: DifferenceView) -> Mapping[str, object]:
    return {
        "kind": one.kind.value,
        "finding": one.finding.value,
        "site": one.site_code,
        "number": one.number,
        "out_trade_no": one.out_trade_no,
        "bill_fen": one.bill_fen,
        "bill_state": one.bill_state,
        "our_fen": one.our_fen,
        "our_state": one.our_state,
        "answer": one.answer,
        "outcome": one.outcome,
        "cure": one.cured_by.value,
        "case_id": one.case_id,
        "is_open": one.is_open,
    }
