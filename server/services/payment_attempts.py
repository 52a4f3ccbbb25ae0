"""Attempts to pay a top-up: one out_trade_no at one platform each, made, tried again, given up.

An attempt's row is committed before the platform hears of it, and the payment object kept after: a
try again finds the same out_trade_no. Another method of the same top-up is another attempt. The one
before is given up first and closed at its platform; two QR codes may stand side by side. Whoever
pays twice all the same has the second payment back (`crediting`).
"""

import asyncio
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import structlog

from payments.contract import (
    Method,
    PaymentError,
    PaymentPlatform,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    Trade,
    TradeStatus,
)
from server.core.errors import ConflictError, NotFoundError, UnavailableError
from server.core.top_ups.pace import FIRST
from server.core.top_ups.states import AttemptEvent, TopUpStatus, by_state
from server.models.database import Connection, Row, pool, row, rows, to_json, transaction
from server.services.platforms import PlatformDirectory
from server.services.top_up_views import TopUpView, find_top_up, good_until

log = structlog.get_logger(__name__)

SIDE_BY_SIDE = frozenset({Method.WECHAT_NATIVE, Method.ALIPAY_QR})
ATTEMPTS_MAX = 12  # of one top-up: nobody changes their mind so often
CLOSE_S = 6.0  # a payer who changes the method waits no longer for the platform before
TOGETHER_S = 6.0  # nor for one of two codes
LOCK_TOP_UP = "SELECT * FROM top_up WHERE no = $1 FOR UPDATE"
COUNT = "SELECT count(*) AS made FROM payment_order WHERE top_up_id = $1"
TRIED = "SELECT 1 AS some FROM payment_order WHERE top_up_id = $1 AND method = $2 LIMIT 1"
WAITING = """
SELECT * FROM payment_order WHERE top_up_id = $1 AND method = $2 AND state = 'waiting'
"""
NEW = """
INSERT INTO payment_order (top_up_id, site_id, platform, merchant_id, out_trade_no, method,
                           state, client_ip, created_at, query_at, queries)
VALUES ($1, $2, $3, $4, $5, $6, 'waiting', $7, $8, $9, 0)
"""
# What was given up is asked for at once, until its platform knows, too, that it is over
GIVE_UP = """
UPDATE payment_order SET state = $3::jsonb ->> state, query_at = $4
WHERE top_up_id = $1 AND state = 'waiting' AND method <> ALL($2::text[])
RETURNING id, platform, out_trade_no, merchant_id
"""
KEEP_PAYMENT = """
UPDATE payment_order SET payment = $2::jsonb, payment_at = $3 WHERE id = $1 RETURNING state
"""


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays from where, and where the platform finds us; `payer_id`: the user's openid."""

    public_url: str
    client_ip: str | None = None
    payer_id: str | None = None
    return_url: str | None = None
    user_id: int | None = None


class MethodUnavailableError(ConflictError):
    """The site has no merchant for this method, or the method cannot serve this payer."""

    code = "method_unavailable"


class TopUpOverError(ConflictError):
    """The top-up is paid, closed or expired: no attempt on it is made any more."""

    code = "top_up_over"


class TooManyAttemptsError(ConflictError):
    """The method of this top-up was changed too often; a new one can be ordered."""

    code = "too_many_attempts"


class PlatformFailedError(UnavailableError):
    """The platform did not take the order; the same call may be tried again."""

    code = "payment_platform"


async def merchant_for(
    platforms: PlatformDirectory, site_id: int, method: Method, payer: Payer
) -> PaymentPlatform:
    """The site's merchant for a method; raises MethodUnavailableError."""
    if method is Method.WECHAT_JSAPI and payer.payer_id is None:
        raise MethodUnavailableError("wechat_jsapi needs a payer logged in from WeChat")
    platform = await platforms.of_site(site_id, method.platform)
    if platform is None or method not in platform.methods:
        raise MethodUnavailableError(method.value)
    return platform


async def change_method(
    no: str, method: Method, payer: Payer, platforms: PlatformDirectory, now: datetime
) -> TopUpView:
    """Let a pending top-up be paid by another method, or by a fresh link of the same.

    Where the attempt before turns out to be paid no new one is offered: its payment arrives.
    """
    found = await row(pool(), "SELECT site_id, user_id FROM top_up WHERE no = $1", no)
    if found is None:
        raise NotFoundError("no such top-up")
    if method is Method.WECHAT_JSAPI and payer.user_id != found["user_id"]:
        raise MethodUnavailableError("WeChat takes it from the one alone who ordered")
    merchant = await merchant_for(platforms, found["site_id"], method, payer)
    async with transaction() as connection:
        top_up = await row(connection, LOCK_TOP_UP, no)
        if top_up is None or top_up["status"] != TopUpStatus.PENDING or now >= top_up["expires_at"]:
            raise TopUpOverError(f"this top-up is {top_up['status'] if top_up else 'gone'}")
        given_up = await give_up_within(connection, top_up["id"], now, but=_beside(method))
        await _place_other_within(connection, top_up, merchant, method, payer, now)
    paid = [await _is_paid(one, top_up["site_id"], platforms, now) for one in given_up]
    if not any(paid):
        await hand_out(top_up, method, merchant, payer, now)
    return (await find_top_up(no)).at(now)


def _beside(method: Method) -> frozenset[Method]:
    return SIDE_BY_SIDE if method in SIDE_BY_SIDE else frozenset({method})


async def give_up_within(
    connection: Connection, top_up_id: int, now: datetime, *, but: Collection[Method] = ()
) -> list[Row]:
    """Give up the attempts that wait, under the top-up's lock; which those were."""
    moves = to_json(by_state(AttemptEvent.GIVEN_UP))
    kept = [method.value for method in but]
    return await rows(connection, GIVE_UP, top_up_id, kept, moves, now)


async def _place_other_within(
    connection: Connection,
    top_up: Row,
    merchant: PaymentPlatform,
    method: Method,
    payer: Payer,
    now: datetime,
) -> None:
    """Another attempt as a row, unless one by this method waits already."""
    if await row(connection, WAITING, top_up["id"], method.value) is not None:
        return
    made = await row(connection, COUNT, top_up["id"])
    if made is not None and made["made"] >= ATTEMPTS_MAX:
        raise TooManyAttemptsError(f"{ATTEMPTS_MAX} attempts on one top-up")
    await _insert(connection, top_up, merchant, method, payer, now)


async def place_within(
    connection: Connection,
    top_up: Row,
    merchant: PaymentPlatform,
    method: Method,
    payer: Payer,
    now: datetime,
) -> None:
    """A top-up's first attempt by a method as a row, under the top-up's lock."""
    if await row(connection, TRIED, top_up["id"], method.value) is None:
        await _insert(connection, top_up, merchant, method, payer, now)


async def _insert(
    connection: Connection,
    top_up: Row,
    merchant: PaymentPlatform,
    method: Method,
    payer: Payer,
    now: datetime,
) -> None:
    await rows(
        connection,
        NEW,
        *(top_up["id"], top_up["site_id"], merchant.platform.value, merchant.merchant_id),
        *(new_number(now), method.value, payer.client_ip, now),
        now + FIRST,
    )


def new_number(now: datetime) -> str:
    """32 characters at most at both platforms: the time for people, randomness for uniqueness."""
    return f"{now:%Y%m%d%H%M%S}{secrets.randbelow(10**14):014d}"


async def hand_out_together(
    top_up: Row, merchants: dict[Method, PaymentPlatform], payer: Payer, now: datetime
) -> None:
    """Payment objects of several methods at once; one that fails or is slow is left out.

    Raises PlatformFailedError where none was given.
    """
    ended = await asyncio.gather(
        *(
            hand_out(top_up, method, merchant, payer, now, within_s=TOGETHER_S)
            for method, merchant in merchants.items()
        ),
        return_exceptions=True,
    )
    failed = [error for error in ended if isinstance(error, BaseException)]
    unexpected = [error for error in failed if not isinstance(error, PlatformFailedError)]
    for error in unexpected or (failed if len(failed) == len(ended) else []):
        raise error


async def hand_out(
    top_up: Row,
    method: Method,
    merchant: PaymentPlatform,
    payer: Payer,
    now: datetime,
    *,
    within_s: float | None = None,
) -> None:
    """See to it that a waiting attempt has a payment object that still serves.

    The same out_trade_no is ordered again where there is none, or a link has become old; raises
    PlatformFailedError.
    """
    placed = await row(pool(), WAITING, top_up["id"], method.value)
    if placed is None or now >= top_up["expires_at"]:
        return
    made_at = placed["payment_at"]
    if made_at is not None and now < good_until(method, made_at, top_up["expires_at"]):
        return
    request = await _request(top_up, placed, merchant.platform, payer)
    try:
        async with asyncio.timeout(within_s):
            payment = await merchant.create(request, now)
    except (PaymentError, TimeoutError) as error:
        code = getattr(error, "code", "") or "no answer"
        log.warning("the platform took no order", platform=merchant.platform.value, code=code)
        raise PlatformFailedError(code) from error
    kept = await row(pool(), KEEP_PAYMENT, placed["id"], to_json(dict(payment)), now)
    if kept is not None and kept["state"] != "waiting":
        await _close_late(merchant, request.out_trade_no, now)


async def _request(top_up: Row, placed: Row, platform: Platform, payer: Payer) -> PaymentRequest:
    """What is asked of the platform: the same again for the same out_trade_no."""
    site = await row(pool(), "SELECT code, name FROM site WHERE id = $1", top_up["site_id"])
    assert site is not None  # noqa: S101  a foreign key holds it
    return PaymentRequest(
        out_trade_no=placed["out_trade_no"],
        amount_fen=top_up["amount_fen"],
        description=f"{site['name']} 电费充值"[:40],
        method=Method(placed["method"]),
        notify_url=f"{payer.public_url}/payments/{platform.value}/{site['code']}/notify",
        expires_at=top_up["expires_at"],
        payer_id=payer.payer_id,
        client_ip=placed["client_ip"],
        return_url=payer.return_url,
    )


async def _close_late(merchant: PaymentPlatform, out_trade_no: str, now: datetime) -> None:
    """An order that was given up while its platform was making it; paid all the same, it counts."""
    try:
        await merchant.close(out_trade_no, now)
    except PaymentError as error:
        log.warning("an order given up stays open", out_trade_no=out_trade_no, code=error.code)


async def _is_paid(
    given_up: Row, site_id: int, platforms: PlatformDirectory, now: datetime
) -> bool:
    """Close an attempt at its platform; False also where that does not answer: workers go on."""
    merchant = await platforms.of_site(site_id, Platform(given_up["platform"]))
    if merchant is None or merchant.merchant_id != given_up["merchant_id"]:
        return False
    try:
        async with asyncio.timeout(CLOSE_S):
            trade = await close_and_ask(merchant, given_up["out_trade_no"], now)
    except (PaymentError, TimeoutError):
        log.info("no answer to a close yet", out_trade_no=given_up["out_trade_no"])
        return False
    return trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}


async def close_and_ask(merchant: PaymentPlatform, out_trade_no: str, now: datetime) -> Trade:
    """What a trade is after its platform was told to close it: a payment can race that."""
    try:
        await merchant.close(out_trade_no, now)
    except PlatformRefusedError as error:  # paid, mostly: what it is, is asked in any case
        log.info("a close was refused", out_trade_no=out_trade_no, code=error.code)
    return await merchant.query(out_trade_no, now)
