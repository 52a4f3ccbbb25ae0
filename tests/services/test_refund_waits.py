"""A part that is asked for again and again, for days: one case, until it has ended."""

from pathlib import Path

import pytest

from payments.contract import RefundStatus
from server.core.refunds.cases import CaseDecision
from server.models.database import pool, rows
from server.services.audit import audit
from server.services.case_decisions import Verdict, decide_case
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World, local

HOUR_S = 3_600


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    """A refund of a payment, asked for in vain."""
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    made = await refunding(world)
    await world.pay(5_000)
    await made.ask(5_000)
    return made


async def cases() -> list[tuple[str, str | None, bool]]:
    found = await rows(pool(), "SELECT kind, decided_by, closed_at FROM payment_case ORDER BY id")
    return [(one["kind"], one["decided_by"], one["closed_at"] is None) for one in found]


async def decided(office: Refunding, decision: CaseDecision) -> None:
    (case,) = await rows(pool(), "SELECT id FROM payment_case WHERE closed_at IS NULL")
    verdict = Verdict(decision, "已联系平台")
    await decide_case(case["id"], office.people["fen"], verdict, office.world.now)


async def test_after_three_days_it_is_one_case_that_ends_with_it(office: Refunding) -> None:
    office.wechat.down = True
    await office.work()
    await office.work(after_s=71 * HOUR_S)
    assert await cases() == []
    for _ in range(2):
        await office.work(after_s=HOUR_S)
        assert await cases() == [("refund_unanswered", None, True)]
    case = await office.world.row("SELECT tenancy_id, credit_id, facts ->> 'code' AS code, "
        "facts ->> 'amount_fen' AS fen FROM payment_case")  # fmt: skip
    (part,) = await rows(pool(), "SELECT code FROM refund_part")
    own = {"tenancy_id": office.world.tenancy_id, "credit_id": None}
    assert case == {**own, "code": part["code"], "fen": "5000"}
    assert part["code"]
    office.wechat.down = False
    await office.work(after_s=HOUR_S)
    await office.work(after_s=HOUR_S)
    office.finish()
    await office.work(after_s=HOUR_S)
    assert await office.parts() == [("done", 5_000, "wechat")]
    assert await cases() == [("refund_unanswered", "mallwatt", False)]
    assert (await audit(lambda _: None)).violations == []


async def test_what_a_manager_has_seen_is_not_shown_again(office: Refunding) -> None:
    office.wechat.down = True
    await office.work(after_s=72 * HOUR_S)
    await decided(office, CaseDecision.SEEN)
    await office.work(after_s=HOUR_S)
    assert await office.parts() == [("due", 5_000, "wechat")]
    assert await cases() == [("refund_unanswered", "fen", False)]


async def test_beside_the_case_of_a_stuck_one_there_is_no_other(office: Refunding) -> None:
    await office.work()
    office.finish(RefundStatus.ABNORMAL)
    await office.work(after_s=72 * HOUR_S)
    await decided(office, CaseDecision.AGAIN)
    office.wechat.down = True
    await office.work(after_s=HOUR_S)
    assert await office.parts() == [("due", 5_000, "wechat")]
    assert await cases() == [("refund_abnormal", None, True)]
