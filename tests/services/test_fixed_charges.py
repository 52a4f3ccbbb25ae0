"""Fixed charges: each day once, from their own wallet, by the rules of the day; never a cut."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tortoise.exceptions import IntegrityError

from server.models.database import Connection, Row, from_json, pool, rows, transaction
from server.services import fixed_charges, supply
from server.services.fixed_charges import charge_due, charge_within, make_charged_months
from server.services.journal import open_accounts
from server.services.locks import lock_tenancies
from server.services.readings import NewReading, keep
from server.services.settlement import settle_due
from server.services.transactions import moves
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.settle import charge_fixed_days
from tests.fakes.payment_platform import FakeDirectory
from tests.fakes.site_text import SECOND_SHOP
from tests.imported import imported
from tests.services.conftest import NOW, PROFILES, SITE
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

CHARGES = """
[[fixed_charge]]
code = "service"
valid_from = 2026-01-01
per = "month"
basis = "m2"
price = "3.50"

[[fixed_charge]]
code = "lift"
valid_from = 2026-01-01
per = "day"
price = "0.50"
"""
OWED = 'area_m2 = "36.5"\nfixed_charges = ["service", "lift"]\n'
FIXED = "fixed_charges_wallet"
DAY = timedelta(days=1)


async def import_text(path: Path, text: str, at: datetime = NOW) -> None:
    path.write_text(text, encoding="utf-8")
    await imported(path, PROFILES, at)


@pytest_asyncio.fixture
async def path(database: None, tmp_path: Path) -> Path:
    """The file of a mall: A1 owes fixed charges, A2 does not."""
    file = tmp_path / "site.toml"
    text = SITE.replace('name = "茶饮"\n', f'name = "茶饮"\n{OWED}') + CHARGES + SECOND_SHOP
    await import_text(file, text)
    return file


async def charge_all(now: datetime) -> None:
    while await charge_due(now):
        pass


async def statements() -> list[tuple[str, str, int]]:
    """The charged days: shop, day, fen."""
    found = await rows(
        pool(),
        "SELECT code, to_char(day, 'MM-DD') AS day, amount_fen FROM fixed_charge_statement"
        " JOIN tenancy ON tenancy.id = tenancy_id JOIN shop ON shop.id = shop_id"
        " ORDER BY code, day",
    )
    return [(one["code"], one["day"], one["amount_fen"]) for one in found]


async def tenancy(shop: str = "A1") -> Row:
    sql = (
        "SELECT tenancy.*, shop.code FROM tenancy JOIN shop ON shop.id = shop_id"
        " WHERE code = $1 ORDER BY id DESC"
    )
    return (await rows(pool(), sql, shop))[0]


async def test_each_day_that_is_over_is_charged_once(path: Path) -> None:
    now = NOW + 3 * DAY
    await charge_all(now)
    await charge_all(now)
    assert await statements() == [("A1", "05-20", 462), ("A1", "05-21", 462), ("A1", "05-22", 462)]
    one = await tenancy()
    assert one["fixed_open_day"] == date(2026, 5, 23)
    assert await wallet_fen(one["id"], FIXED) == -3 * 462
    assert await wallet_fen(one["id"]) == 1_000
    assert await sum_of_all_accounts_fen() == 0
    newest = (await moves(one["id"], FIXED.removesuffix("_wallet"), None)).items[0]
    assert (newest.kind, newest.amount_fen) == ("fixed_charge.charged", -462)
    assert newest.details == {"day": "2026-05-22", "version": 1, "charge": "service, lift"}
    assert newest.booked_at == datetime(2026, 5, 22, 16, tzinfo=UTC)
    assert [(line.code, line.amount_fen) for line in newest.charges] == [
        ("service", 412),
        ("lift", 50),
    ]


async def test_a_statement_shows_its_working(path: Path) -> None:
    await charge_all(NOW + DAY)
    found = await rows(pool(), "SELECT document, closed_at FROM fixed_charge_statement")
    lines = from_json(found[0]["document"])["lines"]
    assert lines[0] == {
        "code": "service",
        "valid_from": "2026-01-01",
        "per": "month",
        "basis": "m2",
        "price_micro_yuan": 3_500_000,
        "quantity": 365_000,
        "unit": "cm2",
        "day_number": 20,
        "day_count": 31,
        "period_fen": 12_775,
        "before_fen": 7_830,
        "amount_fen": 412,
    }
    assert (lines[1]["code"], lines[1]["amount_fen"]) == ("lift", 50)
    assert found[0]["closed_at"] == NOW + DAY


async def test_who_owes_nothing_goes_on_without_a_trace(path: Path) -> None:
    await charge_all(NOW + 100 * DAY)
    two = await tenancy("A2")
    assert two["fixed_open_day"] == (NOW + 100 * DAY).date()
    assert (await moves(two["id"], "fixed_charges", None)).items == ()
    assert {shop for shop, _, _ in await statements()} == {"A1"}


async def test_many_days_are_charged_in_parts_and_months_add_up(path: Path) -> None:
    now = datetime(2026, 8, 1, 2, tzinfo=UTC)
    parts = 0
    while await charge_due(now):
        parts += 1
    assert parts == 3  # 73 days, 31 at once
    found = await statements()
    assert len(found) == 12 + 30 + 31
    july = sum(fen for _, day, fen in found if day.startswith("07"))
    assert july == 12_775 + 31 * 50


EDGES: list[tuple[str, list[tuple[str, str, int]]]] = [
    ("2026-05-20T15:59:59+00:00", []),  # 23:59:59 in Shanghai
    ("2026-05-20T16:00:00+00:00", [("A1", "05-20", 462)]),
]


async def test_a_day_is_over_at_the_local_midnight(path: Path) -> None:
    for now, charged in EDGES:
        await charge_all(datetime.fromisoformat(now))
        assert await statements() == charged


async def test_a_kill_in_the_middle_leaves_nothing_and_the_next_try_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await tenancy()
    for last_words in (fixed_charges.STATEMENTS, fixed_charges.GO_ON):

        async def killed(
            connection: Connection, sql: str, *values: object, last: str = last_words
        ) -> list[Row]:
            if sql == last:
                raise RuntimeError("killed")
            return await rows(connection, sql, *values)

        with monkeypatch.context() as patched:
            patched.setattr(fixed_charges, "rows", killed)
            with pytest.raises(RuntimeError, match="killed"):
                await charge_due(NOW + 2 * DAY)
        assert (await statements(), await wallet_fen(one["id"], FIXED)) == ([], 0)
    await charge_all(NOW + 2 * DAY)
    assert await wallet_fen(one["id"], FIXED) == -2 * 462


async def test_workers_side_by_side_charge_each_day_once(path: Path) -> None:
    shops = "".join(
        SECOND_SHOP.replace('"A2"', f'"B{n}"').replace('"面馆"\n', f'"面馆"\n{OWED}')
        for n in range(12)
    )
    await import_text(path, path.read_text(encoding="utf-8") + shops)

    async def work() -> int:
        done = 0
        for _ in range(40):
            done += len(await charge_due(NOW + 5 * DAY, limit=2))
        return done

    async with asyncio.timeout(30):
        assert sum(await asyncio.gather(*(work() for _ in range(4)))) == 14
    found = await statements()
    assert len(found) == 13 * 5
    assert len({(shop, day) for shop, day, _ in found}) == len(found)
    assert await sum_of_all_accounts_fen() == 0


async def test_a_tenancy_that_somebody_holds_is_passed_over(path: Path) -> None:
    one, held, done = await tenancy(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with transaction() as connection:
            await lock_tenancies(connection, [one["id"]])
            held.set()
            await done.wait()

    holding = asyncio.create_task(hold())
    await held.wait()
    passed_over = await charge_due(NOW + DAY)
    done.set()
    await holding
    assert passed_over == [(await tenancy("A2"))["id"]]
    assert await charge_due(NOW + DAY) == [one["id"]]


# Who has the shop at a day's end pays it: A1 changes hands, each at a local day and hour of May.
HANDS = [
    ("23T12", "23T15", {1: ["20", "21", "22"], 2: ["23", "24"]}),  # at noon of one day
    ("23T00", "23T00", {1: ["20", "21", "22"], 2: ["23", "24"]}),  # at midnight
    ("22T09", "24T09", {1: ["20", "21"], 2: ["24"]}),  # vacant for two nights
    ("20T12", "20T13", {1: [], 2: ["20", "21", "22", "23", "24"]}),  # in and out on one day
]


@pytest.mark.parametrize(("left", "came", "paid"), HANDS)
async def test_two_tenancies_of_a_shop_never_pay_one_day(
    path: Path, left: str, came: str, paid: dict[int, list[str]]
) -> None:
    first = await tenancy()
    left_at, came_at = (datetime.fromisoformat(f"2026-05-{text}:00+08:00") for text in (left, came))
    async with transaction() as connection:
        await rows(
            connection, "UPDATE tenancy SET closed_at = $2 WHERE id = $1", first["id"], left_at
        )
        made = await rows(
            connection,
            "INSERT INTO tenancy (site_id, shop_id, opened_at, binding_code, first_open_day,"
            " fixed_open_day, supply_reasons, notice_memory, supply_state, opening_balance_fen,"
            " emergency_credit_fen) SELECT site_id, shop_id, $2, '482915', $3, $3, '[]', '{}',"
            " 'connected', 0, 0 FROM tenancy WHERE id = $1 RETURNING id",
            first["id"],
            came_at,
            came_at.date(),
        )
        await open_accounts(connection, first["site_id"], made[0]["id"])
    await charge_all(NOW + 5 * DAY)
    for number, tenancy_id in ((1, first["id"]), (2, made[0]["id"])):
        found = await rows(
            pool(),
            "SELECT to_char(day, 'DD') AS day FROM fixed_charge_statement"
            " WHERE tenancy_id = $1 ORDER BY day",
            tenancy_id,
        )
        assert [one["day"] for one in found] == paid[number]


async def test_a_move_out_finds_all_charged_that_is_owed(path: Path) -> None:
    """In its own transaction, under its own lock; the day itself is the next one's."""
    one = await tenancy()
    await make_charged_months(NOW + 40 * DAY)
    async with transaction() as connection:
        await lock_tenancies(connection, [one["id"]])
        await charge_within(connection, [one["id"]], NOW + 40 * DAY)
    assert (await tenancy())["fixed_open_day"] == date(2026, 6, 29)
    assert len(await statements()) == 40


async def test_fixed_charges_cut_nobody(path: Path) -> None:
    """Civil Code 944: unpaid, and by far, they change nothing about the supply."""
    before, told = await tenancy(), await rows(pool(), "SELECT id FROM notice")
    await charge_all(NOW + 240 * DAY)
    assert await wallet_fen(before["id"], FIXED) < -100_000
    await supply.decide_now([before["id"]], NOW + 240 * DAY)
    after = await tenancy()
    memory = ("supply_state", "supply_reasons", "overdrawn_since", "notice_memory")
    assert {name: after[name] for name in memory} == {name: before[name] for name in memory}
    assert await rows(pool(), "SELECT id FROM notice") == told
    states = await rows(pool(), "SELECT policy_state FROM meter_control")
    assert states == [{"policy_state": "connected"}]


async def test_what_lies_in_the_other_wallet_connects_nobody(path: Path) -> None:
    one = await tenancy()
    meter = await rows(pool(), "SELECT id FROM meter")
    for hours, register_wh in ((0, 5_000), (1, 16_000)):
        at = NOW + timedelta(hours=hours)
        await keep([NewReading(meter[0]["id"], at, register_wh, 0)], at)
    await settle_due(NOW + timedelta(hours=1))
    assert (await tenancy())["supply_state"] == "disconnected"
    await rows(
        pool(),
        "UPDATE wallet SET balance_fen = 1000000 WHERE account_id ="
        " (SELECT id FROM account WHERE tenancy_id = $1 AND kind = $2)",
        one["id"],
        FIXED,
    )
    await supply.decide_now([one["id"]], NOW + timedelta(hours=1))
    assert (await tenancy())["supply_state"] == "disconnected"


async def test_one_that_cannot_be_charged_is_put_aside(path: Path) -> None:
    other = SECOND_SHOP.replace('"A2"', '"A3"').replace('"面馆"\n', f'"面馆"\n{OWED}')
    await import_text(path, path.read_text(encoding="utf-8") + other)
    await rows(pool(), "UPDATE shop SET area_cm2 = 1000000000000000 WHERE code = 'A1'")
    now = NOW + DAY
    context = WorkContext(
        clock=lambda: now, platforms=FakeDirectory(), channels={}, wakeups=Wakeups(None)
    )
    while await charge_fixed_days(context):
        pass
    assert await statements() == [("A3", "05-20", 462)]
    assert (await tenancy())["fixed_try_at"] == now + timedelta(hours=1)
    await rows(pool(), "UPDATE shop SET area_cm2 = 365000 WHERE code = 'A1'")
    assert await charge_due(now) == []
    await charge_all(now + timedelta(hours=1))
    assert await statements() == [("A1", "05-20", 462), ("A3", "05-20", 462)]
    assert (await tenancy())["fixed_try_at"] is None


async def test_a_date_set_back_by_hand_charges_nobody_twice(path: Path) -> None:
    await charge_all(NOW + DAY)
    one = await tenancy()
    await rows(pool(), "UPDATE tenancy SET fixed_open_day = '2026-05-20' WHERE id = $1", one["id"])
    with pytest.raises(IntegrityError, match="fixed_charge_statement"):
        await charge_due(NOW + DAY)
    assert await wallet_fen(one["id"], FIXED) == -462
