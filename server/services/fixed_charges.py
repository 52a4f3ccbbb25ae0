"""Taking each past day's fixed charges from the separate wallet; a supply never depends on it.

Gather by one SQL, rate in pure Python, apply (decision 13). Workers take different tenancies: what
one holds, another passes over. `tenancy.fixed_open_day` goes on in the transaction that charges.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from server.core.calendar import day_bounds, local_day
from server.core.ledger.accounts import fixed_charges_wallet
from server.core.ledger.flows import fixed_charge_charged
from server.core.ledger.transfer import DETAIL_TEXT_MAX
from server.core.settlement.fixed_day import (
    FixedDay,
    basis_quantity,
    charge_fixed_day,
    fixed_day_document,
    owed_until,
)
from server.core.tariff.versions import FixedCharge, fixed_charge_on
from server.models.database import Connection, Row, from_json, pool, row, rows, to_json, transaction
from server.services.journal import Entry, post_many
from server.services.readings import ensure_months
from server.services.site_rules import SiteRules, rules_of_sites

BATCH_MAX = 200  # tenancies in one transaction
DAYS_MAX = 31  # days charged at once for one tenancy; the rest follows in the next batch
TRY_AGAIN = timedelta(hours=1)

_DUE = """
FROM site
CROSS JOIN LATERAL (SELECT ($1::timestamptz AT TIME ZONE site.timezone)::date AS today) AS local
JOIN tenancy ON tenancy.site_id = site.id AND tenancy.fixed_open_day
    < least(local.today, (tenancy.closed_at AT TIME ZONE site.timezone)::date)
"""
_WAITING = (
    _DUE
    + """
WHERE (tenancy.fixed_try_at IS NULL OR tenancy.fixed_try_at <= $1)
  AND ($3::bigint IS NULL OR tenancy.id = $3)
ORDER BY tenancy.fixed_open_day, tenancy.id LIMIT $2
"""
)
WAITING = f"SELECT tenancy.id {_WAITING}"
# The tenancies' lock itself, without waiting for anybody.
CLAIM = f"{WAITING} FOR NO KEY UPDATE OF tenancy SKIP LOCKED"
SPAN = f"SELECT min(tenancy.fixed_open_day) AS first, max(local.today) AS last {_DUE}"
PUT_ASIDE = "UPDATE tenancy SET fixed_try_at = $2 WHERE id = $1"
TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.closed_at, tenancy.fixed_open_day,
       shop.fixed_charges, shop.area_cm2, shop.capacity_va
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = ANY($1::bigint[]) AND tenancy.fixed_open_day IS NOT NULL
  AND (tenancy.fixed_try_at IS NULL OR tenancy.fixed_try_at <= $2)
ORDER BY tenancy.id
"""
STATEMENTS = """
INSERT INTO fixed_charge_statement (site_id, tenancy_id, day, version, amount_fen, document,
                                    ledger_transaction_id, closed_at)
SELECT site_id, tenancy_id, day, 1, amount_fen, document::jsonb,
       nullif(ledger_transaction_id, 0), $7
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::bigint[], $5::text[], $6::bigint[])
    AS one (site_id, tenancy_id, day, amount_fen, document, ledger_transaction_id)
"""
GO_ON = """
UPDATE tenancy SET fixed_open_day = charged.day, fixed_try_at = NULL
FROM unnest($1::bigint[], $2::date[]) AS charged (tenancy_id, day)
WHERE tenancy.id = charged.tenancy_id
"""


@dataclass(frozen=True, slots=True)
class _Charged:
    """One tenancy's days, those without charges left out.

    It goes on with `go_on`; before `until` that is at once.
    """

    tenancy: Row
    rules: SiteRules
    days: Sequence[FixedDay]
    go_on: date
    until: date


async def charge_due(
    now: datetime, *, limit: int = BATCH_MAX, only: int | None = None
) -> list[int]:
    """Charge days up to yesterday for a batch of tenancies; the ones done, none: nothing is due.

    Call again until it answers none. `only` is one tenancy.
    """
    if not await make_charged_months(now):
        return []
    async with transaction() as connection:
        claimed = await rows(connection, CLAIM, now, min(limit, BATCH_MAX), only)
        tenancy_ids = [one["id"] for one in claimed]
        await _charge(connection, tenancy_ids, now)
        return tenancy_ids


async def charge_within(connection: Connection, tenancy_ids: Sequence[int], now: datetime) -> None:
    """Charge all that is due of these tenancies, in the caller's transaction, under their locks.

    Before rules change, for new ones bill nothing back; before a wallet is settled at a move-out.
    The caller has called `make_charged_months` before the transaction. Who was put aside stays.
    """
    for start in range(0, len(tenancy_ids), BATCH_MAX):
        left = tenancy_ids[start : start + BATCH_MAX]
        while left:
            left = await _charge(connection, left, now)


async def waiting_to_charge(now: datetime, limit: int) -> list[int]:
    """The tenancies whose turn it is, without taking them."""
    found = await rows(pool(), WAITING, now, min(limit, BATCH_MAX), None)
    return [one["id"] for one in found]


async def put_charging_aside(tenancy_id: int, now: datetime) -> None:
    """Charge this tenancy in an hour: it failed where others did not."""
    await rows(pool(), PUT_ASIDE, tenancy_id, now + TRY_AGAIN)


async def make_charged_months(now: datetime) -> bool:
    """Make the partitions of whatever is due, before anybody is locked; whether anything is."""
    span = await row(pool(), SPAN, now)
    if span is None or span["first"] is None:
        return False
    months, month = [], span["first"].replace(day=1)
    while month <= span["last"]:
        months.append(datetime(month.year, month.month, 1, 12, tzinfo=UTC))
        month = (month + timedelta(days=31)).replace(day=1)
    await ensure_months("fixed_charge_statement", months)
    return True


async def _charge(connection: Connection, tenancy_ids: Sequence[int], now: datetime) -> list[int]:
    """Under the tenancies' locks; the ones that have more days than a batch may hold."""
    found = await rows(connection, TENANCIES, tenancy_ids, now)
    rules = await rules_of_sites(connection, {one["site_id"] for one in found})
    charged = [_decide(one, rules[one["site_id"]], now) for one in found]
    owed = [(one, day) for one in charged for day in one.days]
    transactions = await _post(connection, owed)
    await rows(
        connection,
        STATEMENTS,
        [one.tenancy["site_id"] for one, _ in owed],
        [one.tenancy["id"] for one, _ in owed],
        [day.day for _, day in owed],
        [day.amount_fen for _, day in owed],
        [to_json(fixed_day_document(day)) for _, day in owed],
        transactions,
        now,
    )
    moved = [one for one in charged if one.go_on > one.tenancy["fixed_open_day"]]
    await rows(
        connection, GO_ON, [one.tenancy["id"] for one in moved], [one.go_on for one in moved]
    )
    return [one.tenancy["id"] for one in charged if one.go_on < one.until]


def _decide(tenancy: Row, rules: SiteRules, now: datetime) -> _Charged:
    closed_at: datetime | None = tenancy["closed_at"]
    moved_out = None if closed_at is None else local_day(closed_at, rules.zone)
    first: date = tenancy["fixed_open_day"]
    until = max(first, owed_until(local_day(now, rules.zone), moved_out))
    codes = from_json(tenancy["fixed_charges"])
    end = min(until, first + timedelta(days=DAYS_MAX)) if codes else until
    days = [
        charge_fixed_day(day, _charges_of(tenancy, codes, rules.fixed_charges, day))
        for day in (_days(first, end) if codes else ())
    ]
    return _Charged(tenancy, rules, [day for day in days if day.lines], end, until)


def _days(first: date, end: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((end - first).days))


def _charges_of(
    shop: Row, codes: Iterable[str], charges: Mapping[str, Sequence[FixedCharge]], day: date
) -> Iterator[tuple[FixedCharge, int]]:
    """The shop's charges by the versions of that day, and how much of their basis it has."""
    for code in dict.fromkeys(codes):
        charge = fixed_charge_on(charges[code], day)
        if charge is not None:
            yield (
                charge,
                basis_quantity(
                    charge.basis, area_cm2=shop["area_cm2"], capacity_va=shop["capacity_va"]
                ),
            )


async def _post(connection: Connection, owed: Sequence[tuple[_Charged, FixedDay]]) -> list[int]:
    """Post the days; 0 where one cost nothing."""
    entries: dict[int, dict[tuple[int, date], Entry]] = {}
    for one, day in owed:
        tenancy_id = one.tenancy["id"]
        codes = ", ".join(line.charge.code for line in day.lines)
        posting = fixed_charge_charged(
            fixed_charges_wallet(tenancy_id),
            day.amount_fen,
            {"day": day.day.isoformat(), "version": 1, "charge": codes[:DETAIL_TEXT_MAX]},
        )
        if posting is not None:
            key = f"fixed_charge:{tenancy_id}:{day.day}:1"
            ends_at = day_bounds(day.day, one.rules.zone)[1]
            of_site = entries.setdefault(one.tenancy["site_id"], {})
            of_site[tenancy_id, day.day] = Entry(posting, key, ends_at)
    posted: dict[tuple[int, date], int] = {}
    for site_id, of_site in sorted(entries.items()):
        written = await post_many(connection, site_id, list(of_site.values()))
        posted.update(zip(of_site, (one.transaction_id for one in written), strict=True))
    return [posted.get((one.tenancy["id"], day.day), 0) for one, day in owed]
