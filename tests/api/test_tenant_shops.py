"""What a tenant sees: balance and its parts, price, usage, closed days, the journal."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from miniprogram_api.answering import transaction
from miniprogram_api.words import MOVES, move_title
from server.core.ledger.accounts import WALLET_KINDS
from server.core.ledger.routing import RULES
from server.http.locale import Locale
from server.services.fixed_charges import charge_due
from server.services.transactions import FixedChargeLine, WalletMove
from tests.fakes.town import NOW, Town

DAY = [500] * 14  # from 10:00 to midnight: ten hours of peak, four of valley
NIGHT_AND_DAY = [250] * 24


async def test_what_is_left_is_the_wallet_less_what_is_on_no_statement_yet(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.use("A1", NOW, [1_000, 2_000])
    await town.change(
        "UPDATE meter_control SET confirmed = 'connected', read_back_at = $1", town.now
    )
    answer = (await ann.get(f"/shops/{shop_id}")).json()
    assert answer == {
        "id": shop_id,
        "code": "A1",
        "name": "茶饮",
        "site_name": "示范商场",
        "timezone": "Asia/Shanghai",
        "balance_fen": 100_000 - 360,
        "wallet_fen": 100_000,
        "open_days_fen": 360,
        "reserved_fen": 0,
        "fixed_charges_balance_fen": 0,
        "control_state": "connected",
        "last_reading_at": "2026-05-20T12:00:00+08:00",
        "price_now": {"period": "peak", "yuan_per_kwh": "1.20"},
        "days_left": None,
        "today": {"energy_wh": 3_000, "amount_fen": 360},
        "emergency_credit_fen": 0,
        "emergency_credit_offered_fen": 0,
        "supply_state": "connected",
        "supply_reasons": ["paid_up"],
    }


async def test_before_the_first_reading_nothing_is_claimed(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A2")
    answer = (await ann.get(f"/shops/{shop_id}")).json()
    unknown = ("control_state", "last_reading_at", "days_left")
    assert [answer[name] for name in unknown] == [None, None, None]
    assert answer["price_now"] == {"period": None, "yuan_per_kwh": "0.60"}
    assert answer["today"] == {"energy_wh": 0, "amount_fen": 0}
    line = (await ann.get("/shops")).json()["items"][0]
    assert line == {name: answer[name] for name in line}


async def test_the_emergency_credit_is_offered_granted_and_told(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.change("UPDATE wallet SET balance_fen = -200")
    await town.change(
        "UPDATE supply_policy SET rules = jsonb_set(rules, '{emergency_credit_fen}', '2000')"
    )
    await town.change("UPDATE site SET rules_version = nextval('rules_version')")
    names = ("balance_fen", "emergency_credit_fen", "emergency_credit_offered_fen")
    shop = (await ann.get(f"/shops/{shop_id}")).json()
    assert [shop[name] for name in names] == [-200, 0, 2_000]
    asked = await ann.post(f"/shops/{shop_id}/emergency-credit")
    assert asked.status_code == 201
    assert [asked.json()[name] for name in names] == [-200, 2_000, 0]
    assert asked.json()["supply_reasons"] == ["emergency_credit"]
    again = await ann.post(f"/shops/{shop_id}/emergency-credit")
    assert (again.status_code, again.json()["code"]) == (409, "emergency_credit_running")


async def test_a_hold_is_told_as_the_reason(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.change(
        "UPDATE meter_control SET confirmed = 'disconnected', hold_reason = 'repair',"
        " hold_by = 'eve', held_at = $1",
        NOW,
    )
    answer = (await ann.get(f"/shops/{shop_id}")).json()
    assert (answer["control_state"], answer["supply_reasons"]) == ("disconnected", ["held"])


async def test_usage_by_hour_day_and_month_adds_up(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.use("A1", NOW, DAY + NIGHT_AND_DAY[:13])
    span = {"from": "2026-05-20", "to": "2026-05-22"}
    seen = {}
    for step in ("hour", "day", "month"):
        answer = await ann.get(f"/shops/{shop_id}/usage", params={**span, "step": step})
        assert answer.json()["next_cursor"] is None
        seen[step] = answer.json()["items"]
    assert {step: len(items) for step, items in seen.items()} == {"hour": 48, "day": 2, "month": 1}
    sums = {
        (
            sum(one["energy_wh"] for one in items),
            sum(one["amount_fen"] for one in items),
            sum(one["by_period"].get("peak", 0) for one in items),
            sum(one["by_period"].get("valley", 0) for one in items),
        )
        for items in seen.values()
    }
    assert sums == {(10_250, 680 + 230, 6_250, 4_000)}
    assert seen["day"][0] == {
        "start": "2026-05-20T00:00:00+08:00",
        "energy_wh": 7_000,
        "amount_fen": 680,
        "by_period": {"peak": 5_000, "valley": 2_000},
        "estimated": False,
    }
    assert seen["hour"][10]["start"] == "2026-05-20T10:00:00+08:00"
    assert seen["hour"][10]["energy_wh"] == 500
    assert seen["hour"][9]["energy_wh"] == 0


async def test_a_closed_day_explains_itself(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.use("A1", NOW, [*DAY, 100])
    listed = (await ann.get(f"/shops/{shop_id}/statements", params={"month": "2026-05"})).json()
    assert [one["day"] for one in listed["items"]] == ["2026-05-20"]
    one = (await ann.get(f"/shops/{shop_id}/statements/2026-05-20")).json()
    assert (one["version"], one["energy_wh"], one["amount_fen"]) == (1, 7_000, 680)
    assert one["price_version"] == {
        "code": "tou",
        "valid_from": "2026-01-01",
        "kind": "tou",
        "block_period": None,
    }
    assert one["periods"] == [
        {"begins": "00:00", "ends": "08:00", "period": "valley"},
        {"begins": "08:00", "ends": "20:00", "period": "peak"},
        {"begins": "20:00", "ends": "24:00", "period": "valley"},
    ]
    lines = [
        (x["period"], x["energy_wh"], x["yuan_per_kwh"], x["amount_fen"]) for x in one["lines"]
    ]
    assert lines == [("peak", 5_000, "1.20", 600), ("valley", 2_000, "0.40", 80)]
    reading = one["readings"][0]
    assert reading["meter"] == "M-A1"
    assert reading["last_register_wh"] - reading["first_register_wh"] == one["energy_wh"]
    assert one["versions"] == listed["items"]


async def test_a_day_that_is_still_open_has_no_statement(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.use("A1", NOW, [500])
    month = {"month": "2026-05"}
    listed = await ann.get(f"/shops/{shop_id}/statements", params=month)
    assert listed.json()["items"] == []
    assert (await ann.get(f"/shops/{shop_id}/statements/2026-05-20")).status_code == 404


async def test_days_left_follow_the_mean_of_the_days_with_use(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    await town.use("A1", NOW, DAY + NIGHT_AND_DAY + [0] * 24 + [100])
    answer = (await ann.get(f"/shops/{shop_id}")).json()
    by_day = {"step": "day", "from": "2026-05-20", "to": "2026-05-23"}
    days = (await ann.get(f"/shops/{shop_id}/usage", params=by_day)).json()["items"]
    assert [one["amount_fen"] for one in days] == [680, 480, 0]
    assert answer["days_left"] == answer["balance_fen"] * 2 // (680 + 480)


async def test_the_price_rises_with_the_block(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A2")
    await town.use("A2", NOW, [2_000, 2_999])
    price = (await ann.get(f"/shops/{shop_id}")).json()["price_now"]
    assert price == {"period": None, "yuan_per_kwh": "0.60"}
    await town.use("A2", NOW + timedelta(hours=2), [1])
    price = (await ann.get(f"/shops/{shop_id}")).json()["price_now"]
    assert price == {"period": None, "yuan_per_kwh": "0.75"}


async def test_the_journal_is_read_in_pages_newest_first(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    since = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
    await town.use("A1", since, DAY + NIGHT_AND_DAY + [100])
    answer = (await ann.get(f"/shops/{shop_id}/transactions")).json()
    assert [(one["kind"], one["amount_fen"]) for one in answer["items"]] == [
        ("energy.charged", -480),
        ("energy.charged", -680),
        ("opening_balance.set", 100_000),
    ]
    newest = answer["items"][0]
    assert newest["details"] == {"day": "2026-05-21", "version": 1, "energy_wh": 6_000}
    assert newest["booked_at"] == "2026-05-22T00:00:00+08:00"
    wallet = (await ann.get(f"/shops/{shop_id}")).json()["wallet_fen"]
    assert sum(one["amount_fen"] for one in answer["items"]) == wallet
    other = await ann.get(f"/shops/{shop_id}/transactions", params={"wallet": "fixed_charges"})
    assert other.json() == {"items": [], "next_cursor": None}


WORKING = {
    "code": "service",
    "valid_from": "2026-01-01",
    "per": "day",
    "basis": "shop",
    "price_yuan": "2.50",
    "quantity": "1",
    "day_number": 1,
    "day_count": 1,
    "period_fen": 250,
    "before_fen": 0,
    "amount_fen": 250,
}


async def test_fixed_charges_are_taken_from_their_own_wallet(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    before = (await ann.get(f"/shops/{shop_id}")).json()
    await charge_due(NOW + timedelta(days=2))
    after = (await ann.get(f"/shops/{shop_id}")).json()
    assert after["fixed_charges_balance_fen"] == -500
    assert after == before | {"fixed_charges_balance_fen": -500}
    for language, title in (("zh-CN", "固定费用"), ("en", "Fixed charges")):
        answer = await ann.get(
            f"/shops/{shop_id}/transactions",
            params={"wallet": "fixed_charges"},
            headers={"accept-language": language},
        )
        newest = answer.json()["items"][0]
        assert (newest["kind"], newest["title"]) == ("fixed_charge.charged", title)
        assert (newest["wallet"], newest["amount_fen"]) == ("fixed_charges", -250)
        assert newest["details"] == {"day": "2026-05-21", "version": 1, "charge": "service"}
        assert newest["fixed_charges"] == [WORKING]


QUANTITIES = [
    ("shop", 1, "1"),
    ("cm2", 365_000, "36.5"),
    ("cm2", 1, "0.0001"),
    ("cm2", 1_000_000, "100"),
    ("va", 20_050, "20.05"),
    ("va", 0, "0"),
]


@pytest.mark.parametrize(("unit", "quantity", "text"), QUANTITIES)
def test_a_quantity_is_shown_as_the_mall_wrote_it(unit: str, quantity: int, text: str) -> None:
    day = NOW.date()
    line = FixedChargeLine("c", day, "day", "x", 2_500_000, quantity, unit, 1, 1, 250, 0, 250)
    move = WalletMove(1, "fixed_charge.charged", -250, NOW, NOW, {}, (line,))
    [shown] = transaction(move, "fixed_charges", ZoneInfo("Asia/Shanghai"), Locale.EN).fixed_charges
    assert (shown.quantity, shown.price_yuan) == (text, "2.50")


def test_every_flow_that_moves_a_wallet_has_words() -> None:
    moving = {
        flow
        for flow, rule in RULES.items()
        if any(kind in WALLET_KINDS for pair in rule.pairs for kind in pair)
    }
    assert set(MOVES) == moving
    assert move_title("energy.charged", Locale.EN) == "Electricity"
    assert move_title("brand.new", Locale.ZH) == "brand.new"
