"""A tenant pays in: ordering at a platform, and crediting what the platform says was paid.

The order's row is committed before the platform hears of it, and the payment object kept after:
a try again finds the same out_trade_no. Crediting is one function, whoever calls it.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from payments.contract import (
    Method,
    PaymentError,
    PaymentPlatform,
    PaymentRequest,
    Platform,
    Trade,
    TradeStatus,
)
from server.core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from server.core.ledger.accounts import AccountKind
from server.core.supply.policy import hoarding_room_fen
from server.models.database import Connection, Row, from_json, pool, row, rows, to_json, transaction
from server.services.balances import balances
from server.services.platforms import PlatformDirectory
from server.services.site_rules import site_rules

log = structlog.get_logger(__name__)

ORDER_LIFE = timedelta(minutes=30)
AMOUNT_FEN_MAX = 100_000_000  # a million yuan in one payment is a slip of the finger
WALLETS = {
    "electricity": AccountKind.ELECTRICITY_WALLET,
    "fixed_charges": AccountKind.FIXED_CHARGES_WALLET,
}
QUERY_STEPS_S = (2,) * 15 + (5,) * 12 + (15,) * 20 + (60,) * 30  # QR on screen first, then slower
QUERY_LATER_S = 600
QUERY_DAYS = 2  # an undecided order is asked for so long after it expired

TENANCY = """
SELECT tenancy.id, tenancy.site_id, tenancy.closed_at, shop.name AS shop_name,
       shop.supply_policy_code
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
FOR NO KEY UPDATE OF tenancy
"""
PENDING = """
SELECT coalesce(sum(amount_fen), 0)::bigint AS fen FROM top_up
WHERE tenancy_id = $1 AND wallet = $2 AND status = 'pending' AND expires_at > $3
"""
SAME_KEY = "SELECT * FROM top_up WHERE tenancy_id = $1 AND idempotency_key = $2"
NEW_TOP_UP = """
INSERT INTO top_up (no, site_id, tenancy_id, user_id, wallet, amount_fen, status,
                    idempotency_key, input_hash, created_at, expires_at, refunded_fen)
VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9, $10, 0) RETURNING *
"""
NEW_ORDER = """
INSERT INTO payment_order (top_up_id, site_id, platform, merchant_id, out_trade_no, method,
                           state, created_at, query_at, queries)
VALUES ($1, $2, $3, $4, $5, $6, 'waiting', $7, $8, 0)
ON CONFLICT (top_up_id, method) DO NOTHING
"""
ORDER_OF = "SELECT * FROM payment_order WHERE top_up_id = $1 AND method = $2"
KEEP_PAYMENT = "UPDATE payment_order SET payment = $2::jsonb WHERE id = $1"
TOP_UP = """
SELECT top_up.*, payment_order.payment FROM top_up
LEFT JOIN payment_order ON payment_order.top_up_id = top_up.id
WHERE top_up.no = $1 ORDER BY payment_order.id DESC LIMIT 1
"""
DUE_QUERIES = """
UPDATE payment_order SET queries = queries + 1, query_at = $1::timestamptz + interval '1 minute'
WHERE id IN (SELECT id FROM payment_order WHERE query_at <= $1 ORDER BY query_at, id
             LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, site_id, platform, out_trade_no, queries, created_at,
          (SELECT status = 'closed' FROM top_up WHERE top_up.id = top_up_id) AS is_closed
"""
QUERY_AGAIN = "UPDATE payment_order SET query_at = $2 WHERE id = $1 AND state = 'waiting'"
LOCK_TOP_UP = """
SELECT id FROM top_up WHERE id = (SELECT top_up_id FROM payment_order WHERE id = $1) FOR UPDATE
"""
CLOSE_ORDER = """
UPDATE payment_order SET state = 'closed', query_at = NULL WHERE id = $1 AND state = 'waiting'
"""
# Whoever moves out orders nothing more. The platform is asked at once, and then told to close.
CLOSE_ALL = """
WITH held AS (
    SELECT id FROM top_up WHERE tenancy_id = $1 AND status = 'pending' ORDER BY id FOR UPDATE
)
UPDATE top_up SET status = 'closed' FROM held WHERE top_up.id = held.id RETURNING top_up.id
"""
ASK_NOW = """
UPDATE payment_order SET query_at = $2
WHERE top_up_id = ANY($1::bigint[]) AND state = 'waiting'
"""
CLOSE_TOP_UP = """
UPDATE top_up SET status = 'closed'
WHERE id = (SELECT top_up_id FROM payment_order WHERE id = $1) AND status = 'pending'
  AND NOT EXISTS (SELECT 1 FROM payment_order other
                  WHERE other.top_up_id = top_up.id AND other.state = 'waiting')
RETURNING tenancy_id
"""


@dataclass(frozen=True, slots=True)
class TopUpOrder:
    """What a payer asks for; `public_url` is where the platform's notices reach us."""

    tenancy_id: int
    amount_fen: int
    method: Method
    wallet: str
    idempotency_key: str
    user_id: int | None
    payer_id: str | None
    client_ip: str | None
    public_url: str
    return_url: str | None = None


@dataclass(frozen=True, slots=True)
class TopUpView:
    """A top-up as its payer sees it; the four times are its ticks."""

    top_up_no: str
    tenancy_id: int
    status: str
    wallet: str
    amount_fen: int
    refunded_fen: int
    payment: dict[str, str] | None
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    credited_at: datetime | None
    commanded_at: datetime | None
    confirmed_at: datetime | None


class HoardingLimitError(ConflictError):
    """The wallet would hold more than the policy lets anybody order."""

    code = "hoarding_limit"


class MethodUnavailableError(ConflictError):
    """The site has no merchant for this method, or the method cannot serve this payer."""

    code = "method_unavailable"


class IdempotencyKeyReusedError(ConflictError):
    """The same Idempotency-Key came with another input."""

    code = "idempotency_mismatch"


class PlatformFailedError(UnavailableError):
    """The platform did not take the order; the same key may be tried again."""

    code = "payment_platform"


async def order(wish: TopUpOrder, platforms: PlatformDirectory, now: datetime) -> TopUpView:
    """Order at the platform, once a key; raises typed errors and then nothing was ordered."""
    _check(wish)
    tenancy = await row(pool(), "SELECT site_id FROM tenancy WHERE id = $1", wish.tenancy_id)
    if tenancy is None:
        raise NotFoundError("no such tenancy")
    platform = await platforms.of_site(tenancy["site_id"], wish.method.platform)
    if platform is None or wish.method not in platform.methods:
        raise MethodUnavailableError(wish.method.value)
    top_up, placed = await _place(wish, platform, now)
    if placed["payment"] is None and placed["state"] == "waiting":
        await _create_at_platform(wish, platform, top_up, placed, now)
    return await find_top_up(top_up["no"])


def _check(wish: TopUpOrder) -> None:
    if not 0 < wish.amount_fen <= AMOUNT_FEN_MAX:
        raise InvalidInputError(f"amount_fen is not from 1 to {AMOUNT_FEN_MAX}")
    if wish.wallet not in WALLETS:
        raise InvalidInputError(f"no wallet {wish.wallet!r}: electricity or fixed_charges")
    if not 1 <= len(wish.idempotency_key) <= 100:
        raise InvalidInputError(
            "Idempotency-Key has 1 to 100 characters", code="idempotency_key_needed"
        )
    if wish.method is Method.WECHAT_JSAPI and wish.payer_id is None:
        raise MethodUnavailableError("wechat_jsapi needs a payer logged in from WeChat")


async def _place(wish: TopUpOrder, platform: PaymentPlatform, now: datetime) -> tuple[Row, Row]:
    """The top-up and its order as rows, before the platform hears of them."""
    digest = _digest(wish)
    async with transaction() as connection:
        tenancy = await row(connection, TENANCY, wish.tenancy_id)
        if tenancy is None or tenancy["closed_at"] is not None:
            raise NotFoundError("no such tenancy, or it has ended")
        top_up = await row(connection, SAME_KEY, wish.tenancy_id, wish.idempotency_key)
        if top_up is None:
            await _check_hoarding(connection, tenancy, wish, now)
            top_up = await _insert_top_up(connection, tenancy, wish, digest, now)
        elif top_up["input_hash"] != digest:
            raise IdempotencyKeyReusedError("another amount, method or wallet")
        await rows(
            connection,
            NEW_ORDER,
            top_up["id"],
            tenancy["site_id"],
            platform.platform.value,
            platform.merchant_id,
            _new_number(now),
            wish.method.value,
            now,
            now + timedelta(seconds=QUERY_STEPS_S[0]),
        )
        placed = await row(connection, ORDER_OF, top_up["id"], wish.method.value)
        assert placed is not None  # noqa: S101  inserted above or before
        return top_up, placed


def _digest(wish: TopUpOrder) -> str:
    text = f"{wish.amount_fen}|{wish.method.value}|{wish.wallet}"
    return hashlib.sha256(text.encode()).hexdigest()


def _new_number(now: datetime) -> str:
    """32 characters at most at both platforms: the time for people, randomness for uniqueness."""
    return f"{now:%Y%m%d%H%M%S}{secrets.randbelow(10**14):014d}"


async def _check_hoarding(
    connection: Connection, tenancy: Row, wish: TopUpOrder, now: datetime
) -> None:
    rules = await site_rules(connection, tenancy["site_id"])
    policy = rules.policies[tenancy["supply_policy_code"]]
    kind = WALLETS[wish.wallet]
    pending = await row(connection, PENDING, wish.tenancy_id, kind.value, now)
    owned = (await balances(connection, [wish.tenancy_id]))[wish.tenancy_id]
    electricity = kind is AccountKind.ELECTRICITY_WALLET
    room_fen = hoarding_room_fen(
        policy,
        available_fen=owned.available_fen if electricity else owned.fixed_available_fen,
        pending_fen=pending["fen"] if pending else 0,
    )
    if wish.amount_fen > room_fen:
        raise HoardingLimitError(f"at most {room_fen} fen now")


async def _insert_top_up(
    connection: Connection, tenancy: Row, wish: TopUpOrder, digest: str, now: datetime
) -> Row:
    made = await row(
        connection,
        NEW_TOP_UP,
        _new_number(now),
        tenancy["site_id"],
        wish.tenancy_id,
        wish.user_id,
        WALLETS[wish.wallet].value,
        wish.amount_fen,
        wish.idempotency_key,
        digest,
        now,
        now + ORDER_LIFE,
    )
    assert made is not None  # noqa: S101  INSERT … RETURNING answers its row
    return made


async def _create_at_platform(
    wish: TopUpOrder, platform: PaymentPlatform, top_up: Row, placed: Row, now: datetime
) -> None:
    site = await row(pool(), "SELECT code, name FROM site WHERE id = $1", top_up["site_id"])
    assert site is not None  # noqa: S101  a foreign key holds it
    request = PaymentRequest(
        out_trade_no=placed["out_trade_no"],
        amount_fen=top_up["amount_fen"],
        description=f"{site['name']} 电费充值"[:40],
        method=wish.method,
        notify_url=f"{wish.public_url}/payments/{platform.platform.value}/{site['code']}/notify",
        expires_at=top_up["expires_at"],
        payer_id=wish.payer_id,
        client_ip=wish.client_ip,
        return_url=wish.return_url,
    )
    try:
        payment = await platform.create(request, now)
    except PaymentError as error:
        log.warning(
            "the platform took no order",
            platform=platform.platform.value,
            code=error.code,
            transient=error.transient,
        )
        raise PlatformFailedError(error.code or "no answer") from error
    await rows(pool(), KEEP_PAYMENT, placed["id"], to_json(dict(payment)))


async def find_top_up(no: str) -> TopUpView:
    """A top-up by its number; raises NotFoundError."""
    found = await row(pool(), TOP_UP, no[:32])
    if found is None:
        raise NotFoundError("no such top-up")
    return _view(found)


def _view(found: Row) -> TopUpView:
    names = {kind.value: name for name, kind in WALLETS.items()}
    return TopUpView(
        top_up_no=found["no"],
        tenancy_id=found["tenancy_id"],
        status=found["status"],
        wallet=names[found["wallet"]],
        amount_fen=found["amount_fen"],
        refunded_fen=found["refunded_fen"],
        payment=from_json(found["payment"]) if found["payment"] is not None else None,
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        paid_at=found["paid_at"],
        credited_at=found["credited_at"],
        commanded_at=found["commanded_at"],
        confirmed_at=found["confirmed_at"],
    )


async def close_all_within(connection: Connection, tenancy_id: int, now: datetime) -> int:
    """Close what a tenancy ordered and has not paid, under its lock; how many that were.

    The platforms' own orders are closed by whoever asks them what became of these (`ask_platform`).
    """
    closed = [one["id"] for one in await rows(connection, CLOSE_ALL, tenancy_id)]
    await rows(connection, ASK_NOW, closed, now)
    return len(closed)


@dataclass(frozen=True, slots=True)
class DueQuery:
    """An order whose platform is to be asked what became of it.

    `is_closed`: the top-up is over already, so that the platform's order has to end, too.
    """

    order_id: int
    site_id: int
    platform: Platform
    out_trade_no: str
    queries: int
    created_at: datetime
    is_closed: bool = False


async def take_due_queries(now: datetime, limit: int) -> Sequence[DueQuery]:
    """Orders to ask the platform about now, each claimed for a minute."""
    return [
        DueQuery(
            order_id=one["id"],
            site_id=one["site_id"],
            platform=Platform(one["platform"]),
            out_trade_no=one["out_trade_no"],
            queries=one["queries"],
            created_at=one["created_at"],
            is_closed=one["is_closed"],
        )
        for one in await rows(pool(), DUE_QUERIES, now, limit)
    ]


async def ask_platform(
    due: DueQuery, platform: PaymentPlatform | None, now: datetime
) -> Trade | None:
    """Ask what became of an order; a trade to be credited, or None: ask later, or it is over.

    Without a platform (its merchant is gone) or an answer it is asked for ever more rarely, and
    over when it long should have been: money that comes after that is credited all the same.
    """
    if platform is None:
        await _ask_later(due, now)
        return None
    expired = due.is_closed or now >= due.created_at + ORDER_LIFE
    try:
        trade = await platform.query(due.out_trade_no, now)
        if expired and trade.status in (TradeStatus.WAITING, TradeStatus.UNKNOWN):
            await platform.close(due.out_trade_no, now)
            trade = await platform.query(due.out_trade_no, now)  # a payment can race the close
    except PaymentError as error:
        log.info("order query failed", out_trade_no=due.out_trade_no, code=error.code)
        await _ask_later(due, now)
        return None
    if trade.status in (TradeStatus.PAID, TradeStatus.REFUNDED):
        return trade  # should crediting fail, the claim's minute runs out
    if trade.status is TradeStatus.CLOSED or (expired and trade.status is TradeStatus.UNKNOWN):
        await _close_order(due.order_id)
    else:
        await _ask_later(due, now)
    return None


async def _ask_later(due: DueQuery, now: datetime) -> None:
    if now > due.created_at + ORDER_LIFE + timedelta(days=QUERY_DAYS):
        await _close_order(due.order_id)
    else:
        await rows(pool(), QUERY_AGAIN, due.order_id, now + _pause(due))


def _pause(due: DueQuery) -> timedelta:
    index = due.queries
    seconds = QUERY_STEPS_S[index] if index < len(QUERY_STEPS_S) else QUERY_LATER_S
    return timedelta(seconds=seconds)


async def _close_order(order_id: int) -> None:
    async with transaction() as connection:
        await rows(connection, LOCK_TOP_UP, order_id)  # before the order, as crediting does
        await rows(connection, CLOSE_ORDER, order_id)
        await rows(connection, CLOSE_TOP_UP, order_id)
