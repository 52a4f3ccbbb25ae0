"""A tenant orders a top-up: once a key, within what a wallet may hold, by one method or two codes.

How it is paid then is the matter of its attempts (`payment_attempts`), and what became of those of
`order_queries` and `crediting`.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from payments.contract import Method, PaymentPlatform
from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.ledger.accounts import AccountKind
from server.core.supply.policy import hoarding_room_fen
from server.core.top_ups.pace import ORDER_LIFE
from server.core.top_ups.states import TopUpStatus
from server.models.database import Connection, Row, pool, row, transaction
from server.services.balances import balances
from server.services.payment_attempts import (
    Payer,
    hand_out,
    hand_out_together,
    merchant_for,
    new_number,
    place_within,
)
from server.services.platforms import PlatformDirectory
from server.services.site_rules import site_rules
from server.services.top_up_views import TopUpView, find_top_up
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS

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
SAME_KEY = "SELECT * FROM top_up WHERE tenancy_id = $1 AND idempotency_key = $2 FOR UPDATE"
NEW_TOP_UP = """
INSERT INTO top_up (no, site_id, tenancy_id, user_id, wallet, amount_fen, status,
                    idempotency_key, input_hash, created_at, expires_at, refunded_fen)
VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9, $10, 0) RETURNING *
"""


@dataclass(frozen=True, slots=True)
class TopUpOrder:
    """What a payer asks for; `public_url` is where the platform's notices reach us.

    `beside`: a second code that is shown together with the first.
    """

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
    beside: tuple[Method, ...] = ()


class HoardingLimitError(ConflictError):
    """The wallet would hold more than the policy lets anybody order."""

    code = "hoarding_limit"


class IdempotencyKeyReusedError(ConflictError):
    """The same Idempotency-Key came with another input."""

    code = "idempotency_mismatch"


async def order(wish: TopUpOrder, platforms: PlatformDirectory, now: datetime) -> TopUpView:
    """Order at the platform, once a key; raises typed errors and then nothing was ordered.

    The same again is answered with what still serves: an order that is over has no payment.
    """
    _check(wish)
    tenancy = await row(pool(), "SELECT site_id FROM tenancy WHERE id = $1", wish.tenancy_id)
    if tenancy is None:
        raise NotFoundError("no such tenancy")
    payer = Payer(wish.public_url, wish.client_ip, wish.payer_id, wish.return_url)
    merchants = {
        method: await merchant_for(platforms, tenancy["site_id"], method, payer)
        for method in (wish.method, *wish.beside)
    }
    top_up = await _place(wish, merchants, payer, now)
    if top_up["status"] == TopUpStatus.PENDING:
        if wish.beside:
            await hand_out_together(top_up, merchants, payer, now)
        else:
            await hand_out(top_up, wish.method, merchants[wish.method], payer, now)
    return (await find_top_up(top_up["no"])).at(now)


def _check(wish: TopUpOrder) -> None:
    if not 0 < wish.amount_fen <= AMOUNT_FEN_MAX:
        raise InvalidInputError(f"amount_fen is not from 1 to {AMOUNT_FEN_MAX}")
    if wish.wallet not in WALLETS:
        raise InvalidInputError(f"no wallet {wish.wallet!r}: electricity or fixed_charges")
    if not 1 <= len(wish.idempotency_key) <= 100:
        raise InvalidInputError(
            "Idempotency-Key has 1 to 100 characters", code="idempotency_key_needed"
        )


async def _place(
    wish: TopUpOrder, merchants: dict[Method, PaymentPlatform], payer: Payer, now: datetime
) -> Row:
    """The top-up and its first attempts as rows, before a platform hears of them."""
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
        if top_up["status"] == TopUpStatus.PENDING and now < top_up["expires_at"]:
            for method, merchant in merchants.items():
                await place_within(connection, top_up, merchant, method, payer, now)
        return top_up


def _digest(wish: TopUpOrder) -> str:
    methods = "+".join(method.value for method in (wish.method, *wish.beside))
    text = f"{wish.amount_fen}|{methods}|{wish.wallet}"
    return hashlib.sha256(text.encode()).hexdigest()


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
        new_number(now),
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
