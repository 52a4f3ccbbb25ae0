"""Money by hand: once, within the limit alone, above it by two people, in the log and the books."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from server.core.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    MallwattError,
    NotFoundError,
)
from server.models.database import pool, row, rows
from server.services import approvals, money_by_hand
from server.services.adjustments import Adjustment
from server.services.approvals import Approval, Decision, Outcome, Status
from server.services.desk import DeskPayment, ReceiptUsedError, ReversedError
from server.services.journal import IdempotencyMismatchError
from server.services.locks import TenancyEndedError
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.money_by_hand import ShopRef
from server.services.site_import import ImportReport
from tests.fakes.empty_site import empty_site
from tests.services.audited import blamed
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
MANAGER = """
INSERT INTO manager (name, password_hash, role, site_id, created_at) VALUES ($1, '-', $2, $3, $4)
RETURNING id
"""
LIMIT = approvals.DEFAULT_LIMITS_FEN["adjustment"]
BOOKS = """
SELECT (SELECT count(*) FROM ledger_transaction) AS transactions,
       (SELECT count(*) FROM desk_receipt) AS receipts,
       (SELECT count(*) FROM approval) AS approvals,
       (SELECT count(*) FROM manager_act) AS acts,
       (SELECT sum(balance_fen) FROM wallet)::bigint AS fen
"""


@dataclass
class Office:
    """The people of a mall, and what they do to the wallets of shop A1 (tenancy 1)."""

    site_id: int
    people: dict[str, Manager]
    now: datetime = NOW

    @property
    def shop(self) -> ShopRef:
        return ShopRef(self.site_id, "A1")

    async def pay(self, who: str = "fen", amount_fen: int = 500, **other: str) -> Outcome:
        facts = {"method": "cash", "receipt_no": "R-1", **other}
        payment = DeskPayment(1, amount_fen, **facts)
        return await money_by_hand.take_payment(self.shop, payment, self.people[who], self.now)

    async def adjust(
        self, who: str = "fen", amount_fen: int = 500, key: str | None = "k", **other: str
    ) -> Outcome:
        wish = Adjustment(1, amount_fen, **{"reason": "示数有误", **other})
        return await money_by_hand.adjust(self.shop, wish, self.people[who], self.now, key=key)

    async def reverse(self, receipt_no: str = "R-1", reason: str = "退票") -> Outcome:
        return await money_by_hand.reverse_payment(
            self.shop, receipt_no, reason, self.people["fen"], self.now
        )

    async def say(
        self, asked: Outcome, decision: str = "approve", who: str = "boss", reason: str = ""
    ) -> Approval:
        assert asked.approval_no is not None
        return await money_by_hand.decide(
            asked.approval_no, self.people[who], Decision(decision), reason=reason, now=self.now
        )


async def people_of(site_id: int) -> dict[str, Manager]:
    """A finance clerk, the owner, others who may less."""
    people = {}
    for name, role in (
        *(("fen", Role.FINANCE), ("boss", Role.OWNER), ("other", Role.FINANCE)),
        *(("spark", Role.ENGINEER), ("ear", Role.SERVICE), ("eye", Role.READ_ONLY)),
    ):
        made = await row(pool(), MANAGER, name, role.value, site_id, NOW)
        assert made is not None
        people[name] = Manager(made["id"], name, role, site_id)
    return people


@pytest_asyncio.fixture
async def office(mall: ImportReport) -> AsyncIterator[Office]:
    """The office of a mall in whose books nothing is missing afterwards, and all is an act."""
    yield Office(mall.site_id, await people_of(mall.site_id))
    assert await sum_of_all_accounts_fen() == 0
    assert await blamed() == []


async def acts() -> list[tuple[str, str, str, str]]:
    found = await rows(pool(), "SELECT actor, act, subject, reason FROM manager_act ORDER BY id")
    return [(one["actor"], one["act"], one["subject"], one["reason"]) for one in found]


async def test_a_desk_payment_is_posted_with_its_receipt_and_an_act(office: Office) -> None:
    first = await office.pay(wallet="fixed_charges", method="bank_transfer")
    assert await wallet_fen(1, "fixed_charges_wallet") == 500
    assert await wallet_fen(1) == 1_000
    [receipt] = await rows(pool(), "SELECT * FROM desk_receipt")
    assert (receipt["taken_by"], receipt["wallet"]) == ("fen", "fixed_charges_wallet")
    assert receipt["ledger_transaction_id"] == first.transaction_id
    again = await office.pay(wallet="fixed_charges", method="bank_transfer", who="boss")
    assert again == first
    assert await acts() == [("fen", "desk_payment", "shop:A1", "")]


async def test_two_clicks_at_once_post_once(office: Office) -> None:
    paid = await asyncio.gather(*(office.pay() for _ in range(5)))
    adjusted = await asyncio.gather(*(office.adjust(key=None) for _ in range(5)))
    keyed = await asyncio.gather(*(office.adjust(amount_fen=-70) for _ in range(5)))
    assert [len(set(done)) for done in (paid, adjusted, keyed)] == [1, 1, 1]
    assert await wallet_fen(1) == 1_000 + 500 + 500 - 70
    assert len(await acts()) == 3


async def test_without_a_key_the_same_a_minute_later_is_another(office: Office) -> None:
    first = await office.adjust(key=None)
    assert await office.adjust(key=None) == first
    other = await office.adjust(key=None, reason="另一处")
    office.now += timedelta(seconds=60)
    assert len({first, other, await office.adjust(key=None)}) == 3
    assert await wallet_fen(1) == 1_000 + 3 * 500


Try = Callable[[Office], Awaitable[object]]
REFUSED: list[tuple[str, Try, type[MallwattError], str]] = [
    ("other amount", lambda o: o.pay(amount_fen=501), ReceiptUsedError, "receipt_used"),
    ("other method", lambda o: o.pay(method="bank_transfer"), ReceiptUsedError, "receipt_used"),
    ("other wallet", lambda o: o.pay(wallet="fixed_charges"), ReceiptUsedError, "receipt_used"),
    ("too much too", lambda o: o.pay(amount_fen=10**7), ReceiptUsedError, "receipt_used"),
    ("nothing", lambda o: o.pay(amount_fen=0), InvalidInputError, "invalid_input"),
    ("less", lambda o: o.pay(amount_fen=-1), InvalidInputError, "invalid_input"),
    ("a slip", lambda o: o.pay(amount_fen=10**8 + 1), InvalidInputError, "invalid_input"),
    ("barter", lambda o: o.pay(method="barter"), InvalidInputError, "invalid_input"),
    ("no receipt", lambda o: o.pay(receipt_no=""), InvalidInputError, "invalid_input"),
    ("a space", lambda o: o.pay(receipt_no="R-2 "), InvalidInputError, "invalid_input"),
    ("key again", lambda o: o.adjust(amount_fen=1), IdempotencyMismatchError, "idempotency_mis"),
    ("zero", lambda o: o.adjust(amount_fen=0, key="n"), InvalidInputError, "invalid_input"),
    ("a slip down", lambda o: o.adjust(amount_fen=-(10**8) - 1), InvalidInputError, "invalid"),
    ("no reason", lambda o: o.adjust(reason="", key="n"), InvalidInputError, "reason_needed"),
    ("blank", lambda o: o.adjust(reason=" \n", key="n"), InvalidInputError, "reason_needed"),
    ("long", lambda o: o.adjust(reason="x" * 201, key="n"), InvalidInputError, "invalid_input"),
    ("NUL", lambda o: o.adjust(reason="a\0", key="n"), InvalidInputError, "invalid_input"),
    ("no wallet", lambda o: o.adjust(wallet="piggy", key="n"), InvalidInputError, "invalid_input"),
    ("NUL above", lambda o: o.adjust(reason="\0", amount_fen=10**6), InvalidInputError, "invalid"),
    ("no such", lambda o: o.reverse("R-9"), NotFoundError, "not_found"),
    ("why back", lambda o: o.reverse(reason=" "), InvalidInputError, "reason_needed"),
]


async def test_what_is_refused_changes_nothing(office: Office) -> None:
    await office.pay()
    await office.adjust()
    before = await rows(pool(), BOOKS)
    for name, attempt, error, code in REFUSED:
        with pytest.raises(error) as refused:
            await attempt(office)
        assert refused.value.code.startswith(code), name
        assert await rows(pool(), BOOKS) == before, name


async def test_above_the_limit_it_waits_and_is_done_as_it_was_asked(office: Office) -> None:
    asked = await office.adjust(amount_fen=-LIMIT - 1)
    assert await wallet_fen(1) == 1_000
    assert await office.adjust(amount_fen=-LIMIT - 1) == asked
    [waiting] = await approvals.listed(office.site_id, office.now)
    assert (waiting.status, waiting.asked_by) == (Status.WAITING, "fen")
    shown = ("shop", "tenancy_id", "wallet", "amount_fen", "reason")
    assert [waiting.act[name] for name in shown] == ["A1", 1, "electricity", -LIMIT - 1, "示数有误"]
    decided = await office.say(asked, reason="核对过")
    assert (decided.status, decided.decided_by) == (Status.APPROVED, "boss")
    assert await wallet_fen(1) == 1_000 - LIMIT - 1
    assert await office.say(asked) == decided, "the same again changes nothing"
    assert await office.adjust(amount_fen=-LIMIT - 1) == asked, "nor does the first click again"
    assert await wallet_fen(1) == 1_000 - LIMIT - 1
    assert await acts() == [
        ("fen", "approval_asked", "shop:A1", "示数有误"),
        ("boss", "approval_approved", "shop:A1", "核对过"),
    ]


async def test_a_limit_is_not_walked_round_in_small_steps(office: Office) -> None:
    half = LIMIT // 2
    assert (await office.adjust(amount_fen=half, key="1")).approval_no is None
    assert (await office.adjust(amount_fen=-half, key="2")).approval_no is None
    assert (await office.adjust(amount_fen=1, key="3")).approval_no is not None
    assert (await office.adjust("other", amount_fen=1, key="4")).approval_no is None
    office.now += timedelta(hours=24)
    assert (await office.adjust(amount_fen=1, key="5")).approval_no is None
    at_once = [office.adjust("boss", amount_fen=LIMIT, key=f"b{n}") for n in range(4)]
    done = await asyncio.gather(*at_once)
    assert sum(one.approval_no is None for one in done) == 1


@pytest.mark.parametrize(
    ("approval", "alone"),
    [
        ("NULL", [(10_000, True), (10_001, False)]),
        ("'{}'", [(10_000, True), (10_001, False)]),
        ("'{\"adjustment_fen\": 0}'", [(1, False), (-1, False)]),
        ("'{\"adjustment_fen\": 7}'", [(8, False), (-7, True)]),
    ],
)
async def test_a_site_says_its_own_limit(
    office: Office, approval: str, alone: list[tuple[int, bool]]
) -> None:
    await rows(pool(), f"UPDATE site SET approval = {approval}")  # noqa: S608  ours
    for number, (fen, expected) in enumerate(alone):
        office.now += timedelta(days=2)
        done = await office.adjust(amount_fen=fen, key=str(number))
        assert (done.approval_no is None) is expected, fen


async def test_two_people_take_a_large_payment(office: Office) -> None:
    asked = await office.pay(amount_fen=600_000)
    assert await office.pay(amount_fen=600_000, who="other") == asked
    with pytest.raises(ReceiptUsedError):
        await office.pay(amount_fen=600_001)
    await office.say(asked)
    assert await wallet_fen(1) == 601_000
    [receipt] = await rows(pool(), "SELECT taken_by, created_at FROM desk_receipt")
    assert receipt["taken_by"] == "fen"
    assert (await office.pay(amount_fen=600_000)).transaction_id is not None


async def test_a_rejected_payment_may_be_asked_for_anew(office: Office) -> None:
    asked = await office.pay(amount_fen=600_000)
    rejected = await office.say(asked, "reject", reason="少了一百元")
    assert (rejected.status, rejected.decision_reason) == (Status.REJECTED, "少了一百元")
    again = await office.pay(amount_fen=610_000)
    assert again.approval_no not in {None, asked.approval_no}
    await office.say(again)
    assert await wallet_fen(1) == 611_000


async def test_a_bounced_transfer_is_taken_back_by_two_people_once(office: Office) -> None:
    await office.pay(method="bank_transfer")
    asked = await office.reverse()
    assert await office.reverse() == asked
    assert await wallet_fen(1) == 1_500
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", NOW)  # whoever moved out owes it
    await office.say(asked)
    assert await wallet_fen(1) == 1_000
    with pytest.raises(ReversedError):
        await office.reverse()
    [undone] = await rows(
        pool(), "SELECT details FROM ledger_transaction WHERE flow = 'desk_payment.reversed'"
    )
    assert '"退票"' in undone["details"]


WHO_MAY_NOT = [
    ("fen", ForbiddenError, "own_approval"),
    ("spark", ForbiddenError, "forbidden"),
    ("ear", ForbiddenError, "forbidden"),
    ("eye", ForbiddenError, "forbidden"),
    ("stranger", NotFoundError, "not_found"),
    ("demoted", ForbiddenError, "forbidden"),
]


async def test_who_may_not_decide(office: Office) -> None:
    asked = await office.adjust(amount_fen=LIMIT + 1)
    for name, site_id in (("stranger", await empty_site("x")), ("demoted", None)):
        made = await row(pool(), MANAGER, name, Role.READ_ONLY.value, site_id, NOW)
        assert made is not None
        # their session began when they had the right
        office.people[name] = Manager(made["id"], name, Role.OWNER, site_id)
    before = await rows(pool(), BOOKS)
    for who, error, code in WHO_MAY_NOT:
        for decision in Decision:
            with pytest.raises(error) as refused:
                await office.say(asked, decision.value, who)
            assert refused.value.code == code, who
    await rows(pool(), "UPDATE manager SET role = 'service' WHERE name = 'fen'")
    with pytest.raises(ForbiddenError):
        await office.say(asked)  # who asked has lost the right
    assert await rows(pool(), BOOKS) == before


async def test_what_is_over_is_over(office: Office) -> None:
    late = await office.adjust(amount_fen=LIMIT + 1, key="late")
    done = await office.adjust(amount_fen=LIMIT + 1, key="done")
    gone = await office.adjust(amount_fen=LIMIT + 1, key="gone")
    await office.say(done)
    for who, decision in (("boss", "reject"), ("other", "approve")):
        with pytest.raises(ConflictError, match="approved"):
            await office.say(done, decision, who)
    with pytest.raises(InvalidInputError):
        await office.say(late, reason="x" * 201)
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", NOW)
    with pytest.raises(TenancyEndedError):
        await office.say(gone)  # it still waits: the other may reject it
    assert (await office.say(gone, "reject")).status is Status.REJECTED
    office.now += approvals.ASK_LIFE
    with pytest.raises(ConflictError, match="expired"):
        await office.say(late)
    assert {one.no: one.status for one in await approvals.listed(None, office.now)} == {
        late.approval_no: Status.EXPIRED,
        done.approval_no: Status.APPROVED,
        gone.approval_no: Status.REJECTED,
    }
    assert await wallet_fen(1) == 1_000 + LIMIT + 1


async def test_many_who_approve_at_once_do_it_once(office: Office) -> None:
    asked = await office.adjust(amount_fen=LIMIT + 1)
    said = [office.say(asked, who=who) for who in ("boss", "other") * 3]
    done = await asyncio.gather(*said, return_exceptions=True)
    assert sum(isinstance(one, Approval) for one in done) == 3, "the quicker one, each time"
    assert await wallet_fen(1) == 1_000 + LIMIT + 1


async def test_it_decides_the_supply_at_once(office: Office) -> None:
    await office.adjust(amount_fen=-1_001)
    found = await rows(pool(), "SELECT supply_reasons, overdrawn_since FROM tenancy")
    assert found[0]["overdrawn_since"] == NOW
    await office.pay(amount_fen=2)
    found = await rows(pool(), "SELECT overdrawn_since FROM tenancy")
    assert found == [{"overdrawn_since": None}]


FORGED = [
    "UPDATE approval SET act = jsonb_set(act, '{amount_fen}', '1')",
    "UPDATE approval SET asked_by_id = (SELECT id FROM manager WHERE name = 'other')",
    "UPDATE approval SET decided_by_id = asked_by_id, decided_at = now(), decision = 'approve'",
    "UPDATE approval SET decision = 'approve'",
    "DELETE FROM approval",
    "TRUNCATE approval",
]


async def test_what_was_asked_cannot_be_changed_by_hand(office: Office) -> None:
    asked = await office.adjust(amount_fen=LIMIT + 1)
    for sql in FORGED:
        with pytest.raises(Exception, match=r"refused|violates check"):
            await rows(pool(), sql)
    await office.say(asked, "reject")
    with pytest.raises(Exception, match="decided once"):
        await rows(pool(), "UPDATE approval SET decided_at = NULL, decision = NULL")
