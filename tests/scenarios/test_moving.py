"""One operator leaves at noon, the next comes at 14:00: whose energy, whose money, whose light."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from payments.contract import Platform, TradeStatus
from server.core.errors import ConflictError
from server.models.database import from_json, pool, rows
from server.services import bindings, order_queries
from server.services.audit import audit
from server.services.confirmations import confirm_reconnection
from server.services.crediting import Outcome, credit
from server.services.desk import DeskPayment
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.move_out_money import Payout, pay_out
from server.services.move_out_payments import MoreThanOwedError, pay_debt
from server.services.move_out_standing import Leaver, NotSettledError, standing_of
from server.services.moving_in import MovedIn, MoveIn, move_in
from server.services.moving_out import MovedOut, MoveOut, move_out
from server.services.site_file import SiteFileError
from server.services.site_import import import_site
from server.services.supply_holds import hold_shop
from tests.fakes.site_text import PROFILES, change
from tests.scenarios.world import CUTS_AT_ONCE, World, local
from tests.services.money import wallet_fen
from tests.services.plain_reference import Device, Price, bill

TOU = """kind = "tou"
prices = {peak = "1.20", valley = "0.40"}
periods = [{valley = ["00:00-11:00", "15:00-18:00"], peak = ["11:00-15:00", "18:00-24:00"]}]"""
SPANS = [(0, 11, "valley"), (11, 15, "peak"), (15, 18, "valley"), (18, 24, "peak")]
MORNING, NOON, TWO = (local(f"2026-05-20 {hour}:00") for hour in (10, 12, 14))
TODAY = date(2026, 5, 20)
Bill = dict[date, tuple[int, int]]
USER = "INSERT INTO app_user (app_id, openid, created_at) VALUES ('wx', 'o-1', $1) RETURNING id"
BOSS = Manager(1, "boss", Role.OWNER, None)


async def leave(world: World, at: datetime) -> MovedOut:
    return await move_out(MoveOut(world.site_id, "A1", at, "租约到期"), BOSS, world.now)


async def come(world: World, at: datetime) -> MovedIn:
    return await move_in(MoveIn(world.site_id, "A1", at, "新租约"), BOSS, world.now)


async def token(world: World) -> str:
    return str((await world.row("SELECT token FROM shop"))["token"])


async def statements(tenancy_id: int) -> Bill:
    found = await rows(
        pool(), "SELECT day, energy_wh, amount_fen FROM statement WHERE tenancy_id = $1", tenancy_id
    )
    return {one["day"]: (one["energy_wh"], one["amount_fen"]) for one in found}


async def by_hand(opened_at: datetime, last: date, closed_at: datetime | None = None) -> Bill:
    """What is owed by the readings as they were kept."""
    found = await rows(pool(), "SELECT read_at, register_wh FROM reading ORDER BY read_at")
    meter = [Device(1, 10**9, [(one["read_at"], one["register_wh"]) for one in found])]
    prices = {"peak": 1_200_000, "valley": 400_000}
    tariff = Price(date(2026, 1, 1), SPANS, [(None, prices)])
    return bill([meter], [tariff], opened_at, last, closed_at)


async def test_one_leaves_at_noon_and_another_comes_at_two(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=100_000, tariff=TOU)
    former = world.tenancy_id
    leaver = Leaver(world.site_id, "A1", former)
    [user] = await rows(pool(), USER, world.now)
    await bindings.bind(user["id"], await token(world), "482913", world.now)
    await world.use(
        7_777, over=timedelta(hours=2, minutes=13)
    )  # to 12:13, polled each 10.2 minutes
    number = await world.order(5_000)

    moved = await leave(world, NOON)
    assert (moved.tenancy_id, moved.bindings_ended, moved.orders_closed) == (former, 1, 1)
    assert await leave(world, NOON) == MovedOut(former, NOON, repeated=True)
    assert await bindings.bound_timezone(user["id"], former) is None  # 404 to him from now on
    with pytest.raises(ConflictError, match="nobody lives"):
        await bindings.bind(user["id"], await token(world), "482913", world.now)

    # the platform's order is closed after the commit, by whoever asks what became of it
    [due] = await order_queries.take_due(Platform.WECHAT, world.now, 10)
    assert await order_queries.ask_platform(due, world.platform, world.now) is None
    assert (await world.platform.query(number, world.now)).status is TradeStatus.CLOSED
    assert (await world.top_up())["status"] == "closed"
    late = world.paid_trade(number)  # and he pays all the same
    credited = await credit(world.site_id, Platform.WECHAT, late, world.now)
    assert credited.outcome is Outcome.AFTER_MOVE_OUT
    assert await wallet_fen(former) == 100_000

    # paid out over the counter the same afternoon: the last day is over when the tenancy is
    used = await by_hand(MORNING, TODAY, NOON)
    left_fen = 100_000 - used[TODAY][1]
    payout = Payout("electricity", "cash", left_fen - left_fen % 10, "P-1", left_fen % 10)
    paid = await pay_out(leaver, payout, BOSS, world.now)
    assert paid == await pay_out(leaver, payout, BOSS, world.now)
    assert await wallet_fen(former) == 0
    assert (await standing_of(leaver)).available_fen == {"electricity": 0, "fixed_charges": 0}

    await world.use(3_333, over=timedelta(hours=1, minutes=54))  # the mall's own, most of it: 14:07
    arrived = await come(world, TWO)
    assert arrived.binding_code is not None
    assert await come(world, TWO) == MovedIn(arrived.tenancy_id, TWO, None)
    assert await bindings.bind(user["id"], await token(world), arrived.binding_code, world.now)
    world.tenancy_id = arrived.tenancy_id
    await world.pay(20_000)
    again = await import_site(tmp_path / "site.toml", PROFILES, world.now)
    assert not any(again.created.values())
    await world.use(9_999, over=timedelta(hours=11))
    assert await world.close() == 1

    assert await statements(former) == used
    theirs = await by_hand(TWO, TODAY)
    assert await statements(arrived.tenancy_id) == theirs
    assert used[TODAY][0] + theirs[TODAY][0] < world.meter.register_wh - 100_000 - 2_000
    assert await wallet_fen(arrived.tenancy_id) == 20_000 - theirs[TODAY][1]
    assert (await audit(lambda _: None)).passed


@pytest.mark.parametrize(
    ("policy", "connected"),
    [
        ("", True),
        ('\nreconnect = "confirm"', False),
    ],  # or the new tenant has to say that it is safe
)
async def test_the_light_that_the_former_lost_comes_back_by_policy(
    world: World, tmp_path: Path, policy: str, *, connected: bool
) -> None:
    await world.open(tmp_path, balance_fen=1_000, policy=CUTS_AT_ONCE + policy)
    await world.use(30_000, over=timedelta(hours=2))
    assert world.meter.is_disconnected()
    await leave(world, world.now)
    await world.wait(timedelta(minutes=30))
    assert world.meter.is_disconnected(), "nobody has a say between two tenancies"
    arrived = await come(world, world.now)
    await world.drive()
    assert world.meter.is_connected() is connected
    new = "SELECT supply_reasons, overdrawn_since FROM tenancy WHERE closed_at IS NULL"
    standing = await world.row(new)
    reasons = ["paid_up"] if connected else ["paid_up", "awaiting_confirmation"]
    assert (from_json(standing["supply_reasons"]), standing["overdrawn_since"]) == (reasons, None)
    if not connected:
        await confirm_reconnection(arrived.tenancy_id, world.now)
        await world.drive()
        assert world.meter.is_connected()

    # the debt that cut it is still the former's, and may be paid at the desk, to the fen
    former = Leaver(world.site_id, "A1", world.tenancy_id)
    owed_fen = -(await standing_of(former)).available_fen["electricity"]
    with pytest.raises(MoreThanOwedError):
        await pay_debt(
            former, DeskPayment(world.tenancy_id, owed_fen + 1, "cash", "R-1"), BOSS, world.now
        )
    await pay_debt(former, DeskPayment(world.tenancy_id, owed_fen, "cash", "R-1"), BOSS, world.now)
    assert await wallet_fen(world.tenancy_id) == await wallet_fen(arrived.tenancy_id) == 0
    assert owed_fen > 0
    assert (await audit(lambda _: None)).passed


async def test_a_hold_outlives_who_lived_there(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=10_000)
    await hold_shop(world.site_id, "A1", actor="boss", reason="repair", now=world.now)
    await world.drive()
    await leave(world, world.now)
    await world.wait(timedelta(minutes=10))
    await come(world, world.now)
    await world.drive()
    assert world.meter.is_disconnected()


async def test_nothing_is_paid_out_before_the_last_reading(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=10_000)
    await world.use(2_000, over=timedelta(hours=1))
    left = Leaver(world.site_id, "A1", world.tenancy_id)
    world.now += timedelta(minutes=1)
    await leave(world, world.now)
    all_of_it = Payout("electricity", "bank_transfer", 9_800, "P-1")
    with pytest.raises(NotSettledError, match="last_day"):
        await pay_out(left, all_of_it, BOSS, world.now)
    await world.poll()
    assert (await pay_out(left, all_of_it, BOSS, world.now)).transaction_id
    assert await wallet_fen(world.tenancy_id) == 0


async def test_who_left_days_ago_pays_for_no_day_after(world: World, tmp_path: Path) -> None:
    """Told late: open days that were never theirs go, and the next one's begin where theirs end."""
    await world.open(tmp_path, balance_fen=100_000, tariff=TOU)
    await world.use(2_000, over=timedelta(hours=2))
    world.now += timedelta(hours=30)  # a gap over the night: it goes by time, so no day closes
    world.meter.register_wh += 15_000
    await world.poll()
    evening = local("2026-05-20 20:00")
    await leave(world, evening)
    arrived = await come(world, evening)
    open_days = await rows(pool(), "SELECT tenancy_id, day FROM open_day ORDER BY day, tenancy_id")
    assert [(one["tenancy_id"], one["day"]) for one in open_days] == [
        (world.tenancy_id, TODAY),
        (arrived.tenancy_id, TODAY),
        (arrived.tenancy_id, TODAY + timedelta(days=1)),
    ]
    back_billed = "SELECT back_billing_fen FROM tenancy WHERE closed_at IS NULL"
    assert (await world.row(back_billed))["back_billing_fen"] > 0, "it cuts nobody without a notice"
    world.now += timedelta(days=4)
    await world.poll()
    await world.close()
    last = TODAY + timedelta(days=1)
    assert await statements(world.tenancy_id) == await by_hand(MORNING, TODAY, evening)
    theirs = await by_hand(evening, last)
    closed = await statements(arrived.tenancy_id)
    assert {day: closed[day] for day in theirs} == theirs
    assert (await audit(lambda _: None)).passed


async def test_who_left_is_charged_by_the_tariff_they_had(world: World, tmp_path: Path) -> None:
    """The file may give the shop the next one's tariff once the leaver's last day is closed."""
    await world.open(tmp_path, balance_fen=100_000)
    await world.use(3_000, over=timedelta(hours=2))
    await leave(world, NOON)
    path = tmp_path / "site.toml"
    dear = '[[tariff]]\ncode = "dear"\nkind = "flat"\nprice = "9.00"\n\n[[gateway]]'
    change(path, ('tariff = "tariff"', 'tariff = "dear"'), ("[[gateway]]", dear))
    with pytest.raises(SiteFileError, match=r"shop\[0\].tariff: tenancy 1 moved out") as caught:
        await import_site(path, PROFILES, world.now)
    assert len(caught.value.faults) == 1
    await world.wait(timedelta(minutes=10))
    assert await world.close() == 1
    assert (await import_site(path, PROFILES, world.now)).updated == {"shop": 1}
    assert await statements(world.tenancy_id) == {TODAY: (3_000, 300)}
