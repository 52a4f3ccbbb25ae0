"""Refunds from a wallet: asked with a reason, at once or by two people, never above available.

`refund_starts` takes the money from the wallet and writes the parts, `refund_parts` speaks to the
platforms.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from server.core.errors import ConflictError
from server.core.ledger.accounts import AccountKind
from server.models.database import Connection, pool, row, rows, transaction
from server.services import approvals
from server.services.approvals import Approval, Ask
from server.services.balances import balances
from server.services.locks import lock_tenancies
from server.services.manager_acts import Deed, record_act
from server.services.managers import Manager
from server.services.move_out_standing import Leaver, settled_fen
from server.services.refund_starts import RefundWish, insert_refund, start_within
from server.services.supply import decide_within
from server.services.wallets import WALLETS

REFUND = "refund"
CLICKS_WITHIN = timedelta(seconds=60)  # without a key, the same wish again is the same click
EXPIRE_AT_ONCE = 20

PLACE = """
SELECT tenancy.site_id, tenancy.closed_at, shop.code AS shop_code
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
"""
OF_KEY = "SELECT * FROM refund WHERE site_id = $1 AND idempotency_key = $2"
LAST_CLICK = """
SELECT idempotency_key FROM refund
WHERE site_id = $1 AND asked_by = $2 AND input_hash = $3 AND asked_at > $4
ORDER BY id DESC LIMIT 1
"""
OF_APPROVAL = """
SELECT * FROM refund WHERE approval_no = $1 AND status = 'waiting' FOR UPDATE
"""
START = "UPDATE refund SET status = 'in_progress', started_at = $2 WHERE id = $1"
END = "UPDATE refund SET status = $2, finished_at = $3 WHERE id = $1 AND status = 'waiting'"
EXPIRED = """
SELECT id, tenancy_id FROM refund WHERE status = 'waiting' AND expires_at <= $1
ORDER BY expires_at, id LIMIT $2
"""


class AboveAvailableError(ConflictError):
    """More than the wallet has to give back."""

    code = "above_available"


class OtherRefundError(ConflictError):
    """The key was used for another refund; nothing was changed."""

    code = "idempotency_mismatch"


@dataclass(frozen=True, slots=True)
class Asked:
    """A refund that was asked for; with an approval's number it waits, or waited, for it."""

    refund_no: str
    approval_no: str | None = None


async def ask(
    shop: tuple[int, str], wish: RefundWish, manager: Manager, now: datetime, *, key: str | None
) -> Asked:
    """A manager's refund from a wallet of `shop` (site, code), once a key of this manager's.

    Without a key: once a minute. Raises AboveAvailableError, OtherRefundError.
    """
    site_id, subject = shop[0], f"shop:{shop[1]}"
    async with transaction() as connection:
        await lock_tenancies(connection, [wish.tenancy_id])
        own = await _own_key(connection, site_id, wish, manager, now, key=key)
        before = await _asked_before(connection, site_id, wish, own)
        if before is not None:
            return before
        await _check_available(connection, wish)
        facts = {"shop": shop[1], **asdict(wish)}
        facts.pop("reason")
        asking = Ask(site_id, REFUND, wish.tenancy_id, subject, wish.reason, own, True, facts)  # noqa: FBT003  once a key
        alone = await approvals.may_alone(
            *(connection, site_id, REFUND),
            actor=manager.name,
            subject=subject,
            amount_fen=wish.amount_fen,
            now=now,
        )
        if not alone:
            approval = await approvals.ask_within(connection, asking, manager, now)
            refund = await insert_refund(
                connection, site_id, wish, manager.name, own, now, approval
            )
            await decide_within(connection, [wish.tenancy_id], now)
            return Asked(refund["no"], approval.no)
        refund = await insert_refund(connection, site_id, wish, manager.name, own, now)
        await start_within(connection, refund, now)
        deed = Deed(site_id, manager.name, REFUND, subject, wish.reason, asking.act)
        await record_act(connection, deed, now)
        return Asked(refund["no"])


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Start the refund that a second person agreed to; raises AboveAvailableError."""
    refund = await row(connection, OF_APPROVAL, approval.no)
    if refund is None:
        raise ConflictError(f"no refund waits for {approval.no}", code="approval_over")
    await rows(connection, START, refund["id"], now)
    names = {kind.value: name for name, kind in WALLETS.items()}
    wish = RefundWish(
        refund["tenancy_id"], refund["amount_fen"], refund["reason"], names[refund["wallet"]]
    )
    await _check_available(connection, wish)  # its own reservation has just ended
    await start_within(connection, refund, now)


async def give_up(connection: Connection, approval: Approval, now: datetime) -> None:
    """A second person said no: nothing is reserved any more."""
    refund = await row(connection, OF_APPROVAL, approval.no)
    if refund is not None:
        await rows(connection, END, refund["id"], "rejected", now)
        await decide_within(connection, [refund["tenancy_id"]], now)


async def expired(now: datetime) -> Mapping[int, int]:
    """Refunds whose reservation nobody decided on in time, each with its tenancy."""
    over = await rows(pool(), EXPIRED, now, EXPIRE_AT_ONCE)
    return {one["id"]: one["tenancy_id"] for one in over}


async def expire(refund_id: int, tenancy_id: int, now: datetime) -> None:
    """End such a reservation, where nobody else did meanwhile."""
    async with transaction() as connection:
        await lock_tenancies(connection, [tenancy_id])
        await rows(connection, END, refund_id, "expired", now)
        await decide_within(connection, [tenancy_id], now)


async def _own_key(
    connection: Connection,
    site_id: int,
    wish: RefundWish,
    manager: Manager,
    now: datetime,
    *,
    key: str | None,
) -> str:
    """The caller's key made the manager's own; without one, that of the same wish just before."""
    if key is not None:
        return f"refund:{manager.id}:{hashlib.sha256(key.encode()).hexdigest()}"
    since = now - CLICKS_WITHIN
    last = await row(connection, LAST_CLICK, site_id, manager.name, wish.digest, since)
    return str(last["idempotency_key"]) if last else f"refund:{manager.id}:{secrets.token_hex(32)}"


async def _asked_before(
    connection: Connection, site_id: int, wish: RefundWish, key: str
) -> Asked | None:
    before = await row(connection, OF_KEY, site_id, key)
    if before is None:
        return None
    if before["input_hash"] != wish.digest:
        raise OtherRefundError(f"asked for otherwise as {before['no']}")
    return Asked(before["no"], before["approval_no"])


async def _check_available(connection: Connection, wish: RefundWish) -> None:
    """Under the tenancy's lock: what is used but not billed yet, and reserved, cannot go back.

    Of a tenancy that has ended nothing can before everything is charged (NotSettledError).
    """
    place = (await rows(connection, PLACE, wish.tenancy_id))[0]
    if place["closed_at"] is not None:
        leaver = Leaver(place["site_id"], place["shop_code"], wish.tenancy_id)
        available_fen = await settled_fen(connection, leaver, wish.wallet)
    else:
        owned = (await balances(connection, [wish.tenancy_id]))[wish.tenancy_id]
        electricity = WALLETS[wish.wallet] is AccountKind.ELECTRICITY_WALLET
        available_fen = owned.available_fen if electricity else owned.fixed_available_fen
    if wish.amount_fen > available_fen:
        raise AboveAvailableError(f"{max(available_fen, 0)} fen can be given back")
