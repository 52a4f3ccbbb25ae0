"""A mall and both platforms, to whom anything happens in any order; in the end all fen are there.

The product's own clients speak with the sandbox over sockets, its notices come in at the inbox, and
whoever works may be killed before any statement. `done` lets everybody finish what they began.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

import payments.alipay.client
import payments.alipay.config
import payments.wechat.client
import payments.wechat.config
from payments.contract import Method, NoticeRejectedError, PaymentPlatform, Platform
from payments.sandbox.books import Order, OrderState, Refund, RefundState
from payments.sandbox.control import ControlError
from payments.sandbox.faults import Fault, Kind
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.notifier import Posting
from server.core.errors import MallwattError
from server.core.refunds.cases import CaseDecision
from server.models.database import Row, pool, rows
from server.services import payment_attempts, payment_inbox, top_up_closing, top_ups
from server.services.case_decisions import Verdict, decide_case
from server.services.payment_attempts import Payer
from server.services.refund_payouts import pay_out
from server.workers.inbox import query_alipay, query_wechat, settle_notices
from server.workers.reconcile import reconcile
from server.workers.refunds import ask_for_refunds
from tests.fakes.keys import keys_in
from tests.fakes.refunding import Refunding, refunding
from tests.payments.shops import Yard, open_yard
from tests.scenarios.world import World
from tests.services.money_story import KilledError, killed_before

DOOR = "http://mall.test"
METHODS = (Method.WECHAT_NATIVE, Method.ALIPAY_QR, Method.WECHAT_H5, Method.ALIPAY_WAP)
STEPS = (settle_notices, query_wechat, query_alipay, ask_for_refunds)
WAITS = (2, 2, 30, 60, 120, 700, 2_000)  # seconds; an order lives for half an hour
TROUBLE = (
    *((kind, call) for kind in (Kind.DROPPED, Kind.DROPPED_AFTER) for call in ("*", "refund")),
    *((kind, "*") for kind in (Kind.SERVER_ERROR, Kind.SERVER_ERROR_AFTER, Kind.RATE_LIMITED)),
    (Kind.NOTICE_LOST, "notice"),  # nobody asks again what became of a refund that was done
    *((kind, "*") for kind in (Kind.NOTICE_REPEATED, Kind.NOTICE_REORDERED)),
    *((kind, "*") for kind in (Kind.NOTICE_UNPAID, Kind.WRONG_SIGNATURE, Kind.CLOSE_RACED)),
    *((kind, "*") for kind in (Kind.QUERY_UNPAID, Kind.REFUND_CLOSED, Kind.REFUND_ABNORMAL)),
    (Kind.REFUND_STUCK, "*"),
    (Kind.REFUND_RETURNED, "*"),
)
MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES ($1, $2, $3, $4, '{}')
"""
OPEN_CASES = """
SELECT id, kind, subject, tenancy_id, credit_id FROM payment_case
WHERE closed_at IS NULL AND decided_at IS NULL ORDER BY id
"""
PENDING = "SELECT no FROM top_up WHERE status = 'pending' ORDER BY id"
OF_NO_WALLET = """
SELECT 1 AS some FROM refund_part JOIN refund ON refund.id = refund_id
WHERE out_refund_no = $1 AND wallet IS NULL
"""
# what a bank sent back of a payment that was in suspense: a person knows, the books do not
ONLY_SEEN = """
SELECT subject FROM payment_case WHERE kind = 'refund_returned' AND decision = 'seen'
"""
TO_PAY = "SELECT out_refund_no FROM refund_part WHERE state = 'to_pay'"
OPEN = (
    "SELECT id, content FROM payment_notice WHERE settled_at IS NULL",
    "SELECT id, state FROM payment_order WHERE query_at IS NOT NULL",
    "SELECT out_refund_no, state, attempts, code FROM refund_part WHERE finished_at IS NULL",
    "SELECT kind, subject, decision FROM payment_case WHERE closed_at IS NULL",
)
CLEARING = """
SELECT coalesce(sum(CASE WHEN debit_account_id = account.id THEN amount_fen ELSE -amount_fen END), 0
    )::bigint AS fen
FROM account JOIN ledger_transfer ON account.id IN (credit_account_id, debit_account_id)
WHERE account.kind = $1
"""


class Walk:
    """What may happen, each by a name and a number that says how."""

    def __init__(self, world: World, yard: Yard, office: Refunding) -> None:
        self._world = world
        self._yard = yard
        self._office = office
        self._keys = itertools.count(1)
        self._wishes: list[top_ups.TopUpOrder] = []

    async def act(self, name: str, number: int, killed: int) -> None:
        """One thing; killed before some statement of it where that is not 0."""
        step: Callable[[int], object] = getattr(self, f"_{name}")
        with suppress(KilledError, MallwattError, ControlError, httpx.HTTPError):
            if killed:
                with killed_before(killed):
                    await step(number)  # type: ignore[misc]  # all of them are coroutines
            else:
                await step(number)  # type: ignore[misc]  # likewise

    async def _order(self, number: int) -> None:
        method = METHODS[number % 4]
        beside = (Method.ALIPAY_QR,) if method is Method.WECHAT_NATIVE and number % 3 else ()
        wish = top_ups.TopUpOrder(
            tenancy_id=self._world.tenancy_id,
            amount_fen=100 + number % 1_000,
            method=method,
            wallet="fixed_charges" if number % 5 == 0 else "electricity",
            idempotency_key=f"walk-{next(self._keys)}",
            user_id=None,
            payer_id=None,
            client_ip="127.0.0.1",
            public_url=DOOR,
            beside=beside,
        )
        self._wishes.append(wish)
        await self._place(wish)

    async def _again(self, number: int) -> None:
        """The same order once more."""
        if self._wishes:
            await self._place(self._wishes[-1 - number % min(len(self._wishes), 8)])

    async def _place(self, wish: top_ups.TopUpOrder) -> None:
        view = await top_ups.order(wish, self._world.directory, self._world.now)
        await self._look(view.payment or {})

    async def _look(self, payment: dict[str, str]) -> None:
        """The payer has the code or the page on the screen."""
        url = payment.get("url") or payment.get("code_url") or ""
        if url.startswith(self._yard.sandbox.public_url):
            await self._yard.http.get(url, follow_redirects=True)

    async def _change(self, number: int) -> None:
        """Another method for a top-up that waits."""
        waiting = await rows(pool(), PENDING)
        if waiting:
            no = waiting[number % len(waiting)]["no"]
            payer = Payer(DOOR, "127.0.0.1")
            method = METHODS[number // 7 % 4]
            view = await payment_attempts.change_method(
                no, method, payer, self._world.directory, self._world.now
            )
            await self._look(view.payment or {})

    async def _leave(self, number: int) -> None:
        """A payer gives a top-up up."""
        waiting = await rows(pool(), PENDING)
        if waiting:
            await top_up_closing.give_up(waiting[number % len(waiting)]["no"], self._world.now)

    async def _pay(self, number: int) -> None:
        """Somebody pays one of the latest orders, maybe twice, maybe another amount."""
        orders = self._orders()
        if orders:
            order = orders[-1 - number % min(len(orders), 12)]
            fen = 77 if number % 23 == 0 else None
            await self._yard.control.pay(order.platform, order.out_trade_no, fen)

    async def _stranger(self, number: int) -> None:
        """Money for an order that nobody here knows."""
        platform = list(Platform)[number % 2]
        url = f"{DOOR}/payments/{platform}/demo/notify"
        told = f"STRANGER{next(self._keys)}"
        await self._yard.control.stranger(platform, told, 100 + number % 500, url)

    async def _refund(self, number: int) -> None:
        await self._office.ask(1 + number % 700, key=f"{next(self._keys)}")

    async def _trouble(self, number: int) -> None:
        kind, call = TROUBLE[number % len(TROUBLE)]
        platform = list(Platform)[number // 100 % 2]
        if kind is Kind.REFUND_RETURNED:
            platform = Platform.WECHAT  # Alipay tells nobody: its bill does, for a person to see
        self._yard.sandbox.faults.add(Fault(platform, kind, call))

    async def _decide(self, number: int) -> None:
        """A manager decides the oldest case that waits, one way or another."""
        waiting = await rows(pool(), OPEN_CASES)
        if waiting:
            await self._decide_case(waiting[0], number)

    async def _work(self, number: int) -> None:
        await STEPS[number % len(STEPS)](self._office.context)

    async def _wait(self, number: int) -> None:
        """Time goes on, and what the platforms had to send arrives."""
        self._pass(timedelta(seconds=WAITS[number % len(WAITS)]))
        await self._yard.sandbox.quiet(60)  # a busy machine is no fault

    def _pass(self, by: timedelta) -> None:
        self._yard.clock.at += by
        self._world.now = self._yard.clock.at

    def _orders(self) -> list[Order]:
        books = self._yard.sandbox.orders
        found = [order for platform in Platform for order in books.all(platform)]
        return sorted(found, key=lambda order: order.created_at)

    def _refunds(self) -> list[Refund]:
        books = self._yard.sandbox.orders
        return [refund for platform in Platform for refund in books.refunds(platform)]

    async def _decide_case(self, case: Row, number: int) -> None:
        decision = CaseDecision.SEEN
        if case["credit_id"] is not None:
            decision = CaseDecision.CREDIT if number % 2 else CaseDecision.REFUND
        elif case["kind"] == "refund_abnormal":
            decision = CaseDecision.AGAIN if number % 2 else CaseDecision.BY_HAND
        elif case["kind"] == "refund_returned":
            decision = CaseDecision.GIVE_BACK if number % 2 else CaseDecision.BY_HAND
            if await rows(pool(), OF_NO_WALLET, case["subject"]):
                decision = CaseDecision.SEEN  # there is no wallet to give it back to
        tenancy_id = self._world.tenancy_id if decision is CaseDecision.CREDIT else None
        verdict = Verdict(decision, "客户确认", tenancy_id)
        await decide_case(case["id"], self._office.people["olga"], verdict, self._world.now)

    async def done(self) -> None:
        """Nothing goes wrong any more, and everybody works until there is nothing left to do."""
        self._yard.sandbox.faults.clear()
        for platform in Platform:
            self._yard.control.release(platform)
        bills_are_there = self._world.now + timedelta(hours=35)  # at ten on the day after
        for pause in (timedelta(minutes=31),) * 4 + (timedelta(hours=4),) * 30:
            await self._settle_stuck()
            self._pass(pause)
            await self._yard.sandbox.quiet(60)  # a busy machine is no fault
            for step in STEPS:
                while await step(self._office.context):
                    pass
            await reconcile(self._office.context)
            for case in await rows(pool(), OPEN_CASES):
                await self._decide_case(case, 0)
            await self._pay_out()
            if self._world.now > bills_are_there and await self._rests():
                return
        raise AssertionError(f"still under way: {[await rows(pool(), one) for one in OPEN]}")

    async def _settle_stuck(self) -> None:
        """The bank does its part of what was stuck."""
        for refund in self._refunds():
            if refund.state is RefundState.PROCESSING:
                name, number = refund.platform, refund.out_refund_no
                await self._yard.control.settle(name, number, RefundState.SUCCESS)

    async def _pay_out(self) -> None:
        for part in await rows(pool(), TO_PAY):
            number, olga = part["out_refund_no"], self._office.people["olga"]
            await pay_out(number, "cash", number, olga, self._world.now)

    async def _rests(self) -> bool:
        return not any([await rows(pool(), one) for one in OPEN])

    async def fen(self) -> dict[str, tuple[int, int]]:
        """Of each platform: what the books say that it has of ours, and what it has."""
        found, seen = {}, {one["subject"] for one in await rows(pool(), ONLY_SEEN)}
        for platform in Platform:
            booked = (await rows(pool(), CLEARING, f"{platform}_clearing"))[0]["fen"]
            own = [order for order in self._orders() if order.platform is platform]
            paid = sum(order.amount_fen for order in own if order.state is OrderState.PAID)
            back = [refund for refund in self._refunds() if refund.platform is platform]
            gone = sum(
                one.amount_fen
                for one in back
                if one.state is RefundState.SUCCESS or one.out_refund_no in seen
            )
            found[platform.value] = (booked, paid - gone)
        return found

    async def credits(self) -> tuple[Sequence[str], Sequence[str]]:
        """The payments in the books, and those at the platforms, by the platforms' numbers."""
        booked = await rows(pool(), "SELECT transaction_id FROM payment_credit ORDER BY 1")
        paid = [one.transaction_id or "" for one in self._orders() if one.state is OrderState.PAID]
        return [one["transaction_id"] for one in booked], sorted(paid)


def clients(keys: SandboxKeys, base: str) -> dict[Platform, PaymentPlatform]:
    """The product's own, for the sandbox mall's merchants."""
    wechat = payments.wechat.config.load(
        mchid=keys.mchid,
        appid=keys.appid,
        cert_serial=keys.cert_serial,
        apiv3_key_file=keys.folder / "apiv3.txt",
        private_key_file=keys.folder / "wechat_merchant.pem",
        platform_public_key_file=keys.folder / "wechat_platform.pem",
        platform_public_key_id=keys.platform_public_key_id,
    )
    alipay = payments.alipay.config.load(
        app_id=keys.alipay_app_id,
        seller_id=keys.alipay_seller_id,
        private_key_file=keys.folder / "alipay_app.pem",
        alipay_public_key_file=keys.folder / "alipay_platform.pem",
    )
    return {
        Platform.WECHAT: payments.wechat.client.build(wechat, base),
        Platform.ALIPAY: payments.alipay.client.build(alipay, f"{base}/gateway.do"),
    }


async def _hear(world: World, posting: Posting) -> tuple[int, bytes] | None:
    """A notice comes in at the inbox; a killed process answers nothing."""
    platform = world.directory.platforms[Platform(posting.url.split("/")[4])]
    headers = {name.lower(): value for name, value in posting.headers.items()}
    try:
        notice = platform.parse_notice(headers, posting.body, world.now)
        kept, notice_id = await payment_inbox.keep(world.site_id, platform, notice, world.now)
        if kept is payment_inbox.Kept.ACCEPTED and notice_id is not None and notice_id % 2:
            with suppress(KilledError):
                await payment_inbox.settle(notice_id, world.now)  # the others a worker does
    except (NoticeRejectedError, MallwattError):
        answer = platform.acknowledge(accepted=False)
    except KilledError:
        return None
    else:
        answer = platform.acknowledge(accepted=kept is payment_inbox.Kept.ACCEPTED)
    return answer.status, answer.body


@asynccontextmanager
async def walking(world: World, folder: Path) -> AsyncIterator[Walk]:
    """An open mall with both merchants, on a morning."""
    keys = keys_in(folder / "keys")
    async with open_yard(folder, keys, post=partial(_hear, world)) as yard:
        yard.clock.at = world.now
        merchants = clients(keys, yard.sandbox.public_url)
        world.directory.platforms = merchants  # type: ignore[assignment]  # the real ones
        await world.open(folder, balance_fen=0)
        for platform, merchant in merchants.items():
            ids = (merchant.merchant_id, merchant.app_id)
            await rows(pool(), MERCHANT, world.site_id, platform.value, *ids)
        try:
            yield Walk(world, yard, await refunding(world))
        finally:
            for merchant in merchants.values():
                await merchant.aclose()
