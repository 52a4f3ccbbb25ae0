"""One tenancy, notice or job that cannot be worked on holds up no other, and is tried again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from payments.contract import Platform
from server.core.errors import ConflictError
from server.core.ledger.transfer import AMOUNT_FEN_MAX
from server.core.settlement.day import DaySettlement
from server.models.database import Row, pool, rows, to_json
from server.services import settlement
from server.services.day_inputs import Work, settle
from server.services.estimated_closes import close_estimated
from server.services.jobs import claim_slot
from server.services.readings import NewReading, keep
from server.services.settlement import close_days
from server.services.site_file import SiteFileError
from server.services.site_import import ImportReport, import_site
from server.services.waiting_days import Why, waiting_days
from server.services.wakeups import Wakeups
from server.workers.bell import Bell, TimedJob
from server.workers.context import WorkContext
from server.workers.inbox import query_orders, settle_notices
from server.workers.settle import (
    close_ready_days,
    correct_days,
    decide_supplies,
    settle_readings,
)
from tests.fakes.payment_platform import FakeDirectory
from tests.fakes.site_text import RELAY, SECOND_SHOP, change, meter_text
from tests.imported import imported
from tests.services.conftest import NOW, PROFILES
from tests.services.money import wallet_fen

SECOND = meter_text("M-2", 2, "A2") + SECOND_SHOP + "opening_balance_fen = 1000\n"


class Town:
    """Two shops, a clock that tests move, and the worker's context."""

    def __init__(self, report: ImportReport) -> None:
        self.site_id = report.site_id
        self.now = NOW
        self.platforms = FakeDirectory()
        self.context = WorkContext(
            clock=lambda: self.now, platforms=self.platforms, channels={}, wakeups=Wakeups(None)
        )

    async def tenancies(self) -> dict[str, Row]:
        found = await rows(
            pool(),
            "SELECT shop.code, tenancy.*, (SELECT count(*) FROM open_day"
            " WHERE tenancy_id = tenancy.id) AS open_days"
            " FROM tenancy JOIN shop ON shop.id = shop_id",
        )
        return {one["code"]: one for one in found}

    async def read(self, registers: Sequence[int], *, every: timedelta) -> None:
        """Both meters, as the time goes on."""
        meters = await rows(pool(), "SELECT id FROM meter ORDER BY id")
        for register_wh in registers:
            batch = [NewReading(one["id"], self.now, register_wh, 0) for one in meters]
            await keep(batch, self.now)
            self.now += every


def failures(loop: str) -> float:
    return REGISTRY.get_sample_value("mallwatt_worker_failures_total", {"loop": loop}) or 0.0


SPOIL = {
    "tariff_code": "UPDATE shop SET tariff_code = $1 WHERE code = 'A1'",
    "supply_policy_code": "UPDATE shop SET supply_policy_code = $1 WHERE code = 'A1'",
}


async def spoil(column: str, value: str) -> None:
    """A shop whose rules are gone, as only a slip by hand can make it."""
    await rows(pool(), SPOIL[column], value)


@pytest_asyncio.fixture
async def town(database: None, site_path: Path) -> Town:
    content = site_path.read_text(encoding="utf-8") + SECOND
    site_path.write_text(content, encoding="utf-8")
    return Town(await imported(site_path, PROFILES, NOW))


async def test_a_tenancy_that_cannot_be_settled_is_put_aside(town: Town) -> None:
    assert await settle_readings(town.context) == 2
    await spoil("tariff_code", "gone")
    await town.read([5_000, 6_000], every=timedelta(minutes=30))
    before = failures("settle")
    assert await settle_readings(town.context) == 1
    found = await town.tenancies()
    assert (found["A1"]["open_days"], found["A2"]["open_days"]) == (0, 1)
    assert failures("settle") == before + 2  # the batch, and the tenancy
    assert await settle_readings(town.context) == 0  # it does not spin

    town.now += timedelta(seconds=11)
    assert await settle_readings(town.context) == 0
    town.now += timedelta(seconds=11)
    assert await settle_readings(town.context) == 0  # twice as late as before
    assert failures("settle") == before + 4
    await spoil("tariff_code", "flat")
    town.now += timedelta(seconds=11)
    assert await settle_readings(town.context) == 1
    assert (await town.tenancies())["A1"]["open_days"] == 1
    assert await rows(pool(), "SELECT 1 AS due FROM settlement_due") == []


async def test_it_may_fail_for_ever(town: Town) -> None:
    await spoil("tariff_code", "gone")
    await rows(pool(), "UPDATE settlement_due SET failures = 2000")
    assert await settle_readings(town.context) == 1
    failing = await rows(pool(), "SELECT failures, try_at FROM settlement_due")
    assert failing == [{"failures": 2001, "try_at": town.now + timedelta(hours=2)}]


async def test_a_tenancy_that_cannot_be_decided_is_put_off(town: Town) -> None:
    await settle_readings(town.context)
    await rows(pool(), "UPDATE tenancy SET decide_again_at = $1", town.now)
    await spoil("supply_policy_code", "gone")
    assert await decide_supplies(town.context) == 1
    assert await decide_supplies(town.context) == 0
    assert (await town.tenancies())["A1"]["decide_again_at"] > town.now


async def test_a_tenancy_that_cannot_be_closed_leaves_the_others_their_days(town: Town) -> None:
    await town.read([5_000] * 20, every=timedelta(minutes=60))
    await settle_readings(town.context)
    await spoil("tariff_code", "gone")
    before = failures("close_days")
    assert await close_ready_days(town.context) == 1
    await spoil("tariff_code", "flat")
    for _ in range(3):  # it is read on meanwhile, and not tried each minute
        town.now += timedelta(minutes=18)
        await town.read([25_000], every=timedelta(minutes=1))
        assert await settle_readings(town.context) == 2
        assert await close_ready_days(town.context) == 0
    town.now += timedelta(minutes=3)
    assert await close_ready_days(town.context) == 1
    assert failures("close_days") == before + 2  # the batch, and the tenancy
    assert await rows(pool(), "SELECT 1 FROM tenancy WHERE closing_try_at IS NOT NULL") == []


async def dearest(path: Path, ratio: int, max_power_w: int | None) -> Town:
    """A1 pays the highest price there is for what a meter of this ratio counts."""
    change(path, ('"1.00"', '"100"'), ("unit = 1\n", f"unit = 1\ntransformer_ratio = {ratio}\n"))
    path.write_text(path.read_text(encoding="utf-8") + SECOND, encoding="utf-8")
    facts = replace(PROFILES[RELAY], max_power_w=max_power_w)
    return Town(await imported(path, {RELAY: facts}, NOW))


async def test_the_dearest_day_of_a_meter_with_a_known_power_can_be_charged(
    database: None, site_path: Path
) -> None:
    """Fourteen hours at 30 kW through transformers of 10,000, at 100 yuan."""
    town = await dearest(site_path, 10_000, 30_000)
    await town.read([30_000 * hour for hour in range(1, 21)], every=timedelta(hours=1))
    await settle_readings(town.context)
    assert await close_ready_days(town.context) == 2
    charged = await rows(pool(), "SELECT max(amount_fen) AS fen FROM statement")
    assert charged == [{"fen": 14 * 30 * 10_000 * 100 * 100}]


async def test_a_day_above_what_the_books_hold_is_put_aside_and_told(
    database: None, site_path: Path
) -> None:
    """The power of A1's meter is not known, so that its readings count as far as a megawatt."""
    town = await dearest(site_path, 10_000, None)
    await town.read([1_000_000 * hour for hour in range(1, 21)], every=timedelta(hours=1))
    await settle_readings(town.context)
    before = failures("close_days")
    assert await close_ready_days(town.context) == 1
    assert failures("close_days") == before + 2  # the batch, and the tenancy
    assert await close_ready_days(town.context) == 0  # it does not spin
    [waiting] = await waiting_days(None, town.now, limit=10)
    assert (waiting.shop_code, waiting.why) == ("A1", Why.FAILED)
    a1 = (await town.tenancies())["A1"]
    [day] = await rows(
        pool(), "SELECT amount_fen FROM open_day WHERE tenancy_id = $1 AND complete", a1["id"]
    )
    assert day["amount_fen"] == 14 * 1_000 * 10_000 * 100 * 100 > AMOUNT_FEN_MAX
    assert await wallet_fen(a1["id"]) == 1_000
    with pytest.raises(ConflictError, match="closes by itself"):
        await close_estimated(
            *(town.site_id, "A1", date(2026, 5, 20)), actor="w", reason="why", now=town.now
        )


async def test_a_day_that_cannot_be_rated_fails_while_the_next_is_read(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn a tenancy: what was asked of the database meanwhile is called off, or answered."""
    await town.read([5_000] * 20, every=timedelta(minutes=60))
    await settle_readings(town.context)
    bad = (await town.tenancies())["A1"]["id"]

    def settle_but_one(work: Work, *rest: Any) -> DaySettlement:
        if work.tenancy["id"] == bad:
            raise RuntimeError
        return settle(work, *rest)

    monkeypatch.setattr(settlement, "CHUNK", 1)
    monkeypatch.setattr(settlement, "settle", settle_but_one)
    assert await close_ready_days(town.context) == 1
    monkeypatch.setattr(settlement, "settle", settle)
    town.now += settlement.CLOSING_AGAIN
    assert await close_ready_days(town.context) == 1
    closed = await rows(
        pool(),
        "SELECT shop.code, document #>> '{readings,0,meter}' AS meter"
        " FROM statement JOIN tenancy ON tenancy.id = tenancy_id JOIN shop ON shop.id = shop_id"
        " ORDER BY shop.code",
    )
    assert closed == [{"code": "A1", "meter": "M-1"}, {"code": "A2", "meter": "M-2"}]


async def test_a_tenancy_that_cannot_be_corrected_is_put_aside(town: Town) -> None:
    await town.read([5_000] * 20, every=timedelta(minutes=60))
    await settle_readings(town.context)
    assert await close_ready_days(town.context) == 2
    now, town.now = town.now, NOW + timedelta(minutes=90)
    await town.read([5_000], every=timedelta(0))
    town.now = now
    await settle_readings(town.context)
    await spoil("supply_policy_code", "gone")
    before = failures("correct")
    assert await correct_days(town.context) == 1
    assert failures("correct") == before + 2  # the batch, and the tenancy
    assert await correct_days(town.context) == 0  # it does not spin
    due = await rows(pool(), "SELECT failures, try_at FROM correction_due")
    assert due == [{"failures": 1, "try_at": town.now + timedelta(seconds=10)}]
    await spoil("supply_policy_code", "immediate")
    town.now += timedelta(seconds=11)
    assert await correct_days(town.context) == 1
    assert await rows(pool(), "SELECT 1 AS due FROM correction_due") == []
    versions = await rows(pool(), "SELECT max(version) AS n FROM statement GROUP BY tenancy_id")
    assert versions == [{"n": 2}, {"n": 2}]


async def test_days_in_different_months_close_together(town: Town) -> None:
    """The first and the last day of the batch are not the only ones whose month must be there."""
    town.now = datetime(2026, 8, 20, tzinfo=UTC)
    await town.read([5_000] * 3, every=timedelta(hours=20))
    found = await town.tenancies()
    for code, day in (("A1", "2026-06-01"), ("A2", "2026-08-01")):
        await rows(
            pool(),
            "UPDATE tenancy SET first_open_day = $1::text::date, opened_at = $1::text::date"
            " WHERE id = $2",
            day,
            found[code]["id"],
        )
    batches = 0
    while await settle_readings(town.context):
        batches += 1
    assert batches == 3  # a batch holds a month of days at most
    closed = 0
    while count := await close_days(town.now):
        closed += count
    assert closed == 80 + 19


async def test_a_notice_that_cannot_be_settled_comes_later_and_later(town: Town) -> None:
    """A thousand attempts, too: two to that power is no number that the database has."""
    for digest, status in (("bad", "no such status"), ("good", "closed")):
        await rows(
            pool(),
            "INSERT INTO payment_notice (site_id, platform, merchant_id, digest, out_trade_no,"
            " trade, content, received_at, attempts, try_at)"
            " VALUES ($1, 'wechat', 'm', $2, 'n', $3::text::jsonb, '', $4, 2000, $4)",
            town.site_id,
            digest,
            to_json(
                {
                    "out_trade_no": "n",
                    "status": status,
                    "merchant_id": "m",
                    "paid_fen": None,
                    "currency": "CNY",
                    "transaction_id": None,
                    "paid_at": None,
                }
            ),
            town.now,
        )
    before = failures("inbox")
    assert await settle_notices(town.context) == 2
    assert failures("inbox") == before + 1
    left = await rows(pool(), "SELECT digest, try_at FROM payment_notice WHERE settled_at IS NULL")
    assert [one["digest"] for one in left] == ["bad"]
    assert timedelta(hours=1) < left[0]["try_at"] - town.now < timedelta(hours=2)


async def test_orders_of_a_merchant_that_is_gone_are_asked_for_ever_more_rarely(
    town: Town,
) -> None:
    tenancy = (await town.tenancies())["A1"]
    await rows(
        pool(),
        "WITH made AS (INSERT INTO top_up (no, site_id, tenancy_id, wallet, amount_fen, status,"
        " idempotency_key, input_hash, created_at, expires_at, refunded_fen)"
        " VALUES ('T', $1, $2, 'electricity_wallet', 5, 'pending', 'k', 'h', $3, $3, 0)"
        " RETURNING id) INSERT INTO payment_order (top_up_id, site_id, platform, merchant_id,"
        " out_trade_no, method, state, created_at, query_at, queries)"
        " SELECT id, $1, 'wechat', 'm', 'O', 'wechat_native', 'waiting', $3, $3, 0 FROM made",
        town.site_id,
        tenancy["id"],
        town.now,
    )
    del town.platforms.platforms[Platform.WECHAT]
    asked = 0
    end = town.now + timedelta(days=4)
    while town.now < end:
        asked += await query_orders(town.context, Platform.WECHAT)
        due = await rows(pool(), "SELECT query_at FROM payment_order WHERE query_at > $1", town.now)
        town.now = due[0]["query_at"] if due else end
    assert 100 < asked < 450
    order = await rows(pool(), "SELECT state, status FROM payment_order JOIN top_up ON true")
    assert order == [{"state": "closed", "status": "closed"}]


async def test_a_failed_slot_is_taken_again_and_never_twice_at_a_time(town: Town) -> None:
    done: list[str] = []

    async def work() -> None:
        await bell.ring(job)  # its own tick, while it still runs
        done.append("tried")
        if len(done) == 1:
            raise RuntimeError("the first try fails")

    bell = Bell(lambda: town.now)
    job = TimedJob("nightly", "17 3 * * *", timedelta(days=1), work)
    await bell.ring(job)
    await bell.catch_up()
    assert done == ["tried"]  # the claim still stands
    town.now += timedelta(minutes=11)
    await bell.catch_up()
    await bell.catch_up()
    assert done == ["tried", "tried"]
    assert not await claim_slot("nightly", "2026-05-20T00:00:00+00:00", town.now, timedelta(1))


async def test_an_import_undone_leaves_no_rules_behind(town: Town, site_path: Path) -> None:
    """What a failed import has read of its own changes is nobody's rule."""
    content = site_path.read_text(encoding="utf-8").replace('"1.00"', '"9.00"')
    site_path.write_text(content.replace("balance_fen = 1000", "balance_fen = 5"), encoding="utf-8")
    with pytest.raises(SiteFileError):
        await import_site(site_path, PROFILES, NOW)
    await town.read([5_000, 6_000], every=timedelta(minutes=30))
    await settle_readings(town.context)
    days = await rows(pool(), "SELECT amount_fen FROM open_day")
    assert days == [{"amount_fen": 100}, {"amount_fen": 100}]
