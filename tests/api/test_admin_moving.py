"""Moving out and in by the managers' API, held against the document."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from server.models.database import pool, rows, transaction
from server.services.adjustments import Adjustment, adjust_within
from server.services.readings import NewReading, keep
from tests.api.test_admin_money import People, people
from tests.pages.mall import lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "people", "staged"]  # fixtures
PAYOUT: dict[str, Any] = {"amount_fen": 1_250, "method": "cash", "receipt_no": "付 1/2"}
DEBT = {"amount_fen": 100, "method": "cash", "receipt_no": "R-1", "wallet": "fixed_charges"}
MORE = {"amount_fen": 51, "receipt_no": "R-2"}
OWED = {"amount_fen": 1, "reason": "x"}
TENANCY = "SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = shop_id WHERE code = 'A102'"
METER = """
SELECT meter.id, register_wh FROM meter JOIN meter_status ON meter_id = meter.id
WHERE code = 'M-A102'
"""


async def read_meter(at: datetime) -> None:
    """A reading of the meter of A102, as its collector keeps it."""
    [meter] = await rows(pool(), METER)
    await keep([NewReading(meter["id"], at, meter["register_wh"], 0)], at)


async def owe_fixed_charges(now: datetime) -> None:
    """1.50 yuan less in the other wallet."""
    [tenancy] = await rows(pool(), TENANCY)
    wish = Adjustment(tenancy["id"], -150, "电梯费", "fixed_charges")
    async with transaction() as connection:
        await adjust_within(connection, wish, key="lift", now=now)


async def test_out_paid_and_the_next_one_in(people: People) -> None:
    now = datetime.now(UTC) + timedelta(seconds=1)
    people.mall.clock.at = now
    await owe_fixed_charges(now)
    wish = {"at": now.isoformat(), "reason": "租约到期"}
    status, left = await people.post("finance", "/shops/A102/move-out", wish)
    assert (status, left["orders_closed"], left["meters_asked"]) == (201, 0, 0)
    again = {**wish, "at": left["at"], "tenancy_id": left["tenancy_id"]}
    assert await people.post("owner", "/shops/A102/move-out", again) == (201, left)
    ended = (await people.send("read_only", "GET", "/shops/A102/move-outs")).json()["items"]
    assert [one["tenancy_id"] for one in ended] == [left["tenancy_id"]]
    assert ended[0]["waits_for"] == ["last_day", "settlement"]
    assert ended[0]["available_fen"] == {"electricity": 1_250, "fixed_charges": -150}

    settling = f"/shops/A102/move-outs/{left['tenancy_id']}"
    path = f"{settling}/payouts"
    status, problem = await people.post("finance", path, PAYOUT)
    assert (status, problem["code"]) == (409, "move_out_not_settled")
    await read_meter(now)
    status, paid = await people.post("finance", path, PAYOUT)
    assert (status, set(paid)) == (201, {"transaction_id"})
    assert await people.post("owner", path, PAYOUT) == (201, paid)

    back, why = f"{path}/{quote(PAYOUT['receipt_no'], safe='')}/reversal", {"reason": "退票"}
    status, asked = await people.post("finance", back, why)
    assert (status, set(asked)) == (202, {"approval_no"})
    decided = await people.post("owner", f"/approvals/{asked['approval_no']}")
    assert (decided[0], decided[1]["kind"]) == (200, "move_out_return")
    status, problem = await people.post("finance", back, why)
    assert (status, problem["code"]) == (409, "already_reversed")
    status, paid = await people.post("finance", f"{settling}/payments", DEBT)
    assert (status, set(paid)) == (201, {"transaction_id"})
    assert await people.post("owner", f"{settling}/payments", DEBT) == (201, paid)
    status, problem = await people.post("finance", f"{settling}/payments", {**DEBT, **MORE})
    assert (status, problem["code"]) == (409, "more_than_owed")
    [stands] = (await people.send("owner", "GET", "/shops/A102/move-outs")).json()["items"]
    assert stands["available_fen"] == {"electricity": 1_250, "fixed_charges": -50}

    status, arrived = await people.post("finance", "/shops/A102/move-in", wish)
    assert (status, len(arrived["binding_code"])) == (201, 8)
    told_again = {**arrived, "binding_code": None}
    assert await people.post("owner", "/shops/A102/move-in", wish) == (201, told_again)
    shop = (await people.send("owner", "GET", "/shops/A102")).json()
    assert (shop["tenancy_id"], shop["balance_fen"]) == (arrived["tenancy_id"], 0)


async def test_what_is_refused(people: People) -> None:
    at = datetime.now(UTC).isoformat()
    wish = {"at": at, "reason": "x"}
    key = {"Idempotency-Key": "k"}
    table: list[tuple[str, str, Any, int, str]] = [
        ("engineer", "move-out", "no JSON of ours", 403, "forbidden"),
        ("service", "move-in", wish, 403, "forbidden"),
        ("read_only", "move-outs/1/payouts", PAYOUT, 403, "forbidden"),
        ("engineer", "move-outs/1/write-offs", OWED, 403, "forbidden"),
        ("service", "move-outs/1/payments", DEBT, 403, "forbidden"),
        ("read_only", "move-outs/1/payouts/P/reversal", OWED, 403, "forbidden"),
        ("owner", "move-outs/1/payments", {**DEBT, "method": "wechat"}, 400, "invalid_body"),
        ("owner", "move-outs/1/payments", {**DEBT, "amount_fen": 0}, 422, "invalid_input"),
        ("owner", "move-outs/1/payments", {**DEBT, "receipt_no": " x"}, 422, "invalid_input"),
        ("owner", "move-outs/none/payments", DEBT, 404, "not_found"),
        ("owner", f"move-outs/{9**18}/payments", DEBT, 404, "not_found"),
        ("owner", f"move-outs/{9**18}/payouts/P/reversal", {"reason": "x"}, 404, "not_found"),
        ("owner", "move-outs/1/payouts/P/reversal", {"reason": " "}, 422, "reason_needed"),
        ("owner", "move-outs/1/payouts/P/reversal", OWED, 400, "invalid_body"),
        ("owner", "move-out", {**wish, "at": at[:19]}, 400, "invalid_body"),  # of no timezone
        ("owner", "move-out", {"at": at}, 400, "invalid_body"),
        ("owner", "move-out", {**wish, "reason": " "}, 422, "reason_needed"),
        ("owner", "move-out", {**wish, "at": "2999-01-01T00:00:00Z"}, 422, "in_future"),
        ("owner", "move-out", {**wish, "tenancy_id": 2**63}, 409, "other_tenancy"),
        ("owner", "move-in", {**wish, "at": "0001-01-01T00:00:00Z"}, 422, "too_long_ago"),
        ("owner", "move-in", {**wish, "at": "9999-12-31T23:59:59-12:00"}, 422, "in_future"),
        ("owner", "move-in", wish, 409, "occupied"),
        ("owner", "move-outs/none/payouts", PAYOUT, 404, "not_found"),
        ("owner", f"move-outs/{9**18}/payouts", PAYOUT, 404, "not_found"),
        ("owner", f"move-outs/{'9' * 30}/payouts", PAYOUT, 404, "not_found"),
        ("owner", "move-outs/1/payouts", {**PAYOUT, "rounding_fen": 2**70}, 422, "invalid_input"),
        ("owner", "move-outs/1/payouts", {**PAYOUT, "rounding_fen": 10}, 422, "invalid_input"),
        ("owner", "move-outs/1/write-offs", {**OWED, "amount_fen": 0}, 422, "invalid_input"),
    ]
    for who, place, body, status, code in table:
        got, problem = await people.post(who, f"/shops/A101/{place}", body, **key)
        assert (got, problem["code"]) == (status, code), (place, body, problem)
    status, problem = await people.post("owner", "/shops/A101/move-outs/1/write-offs", OWED)
    assert (status, problem["code"]) == (400, "idempotency_key_needed")
    assert await rows(pool(), "SELECT 1 FROM tenancy WHERE closed_at IS NOT NULL") == []
