"""Acts that wait for a second person: asked whole, decided once, done exactly as they were asked.

What will be done stands whole in `approval.act`: it is shown before it is decided, and nothing else
is carried out. Another kind of act is one more entry in the table of kinds that `decide` is given.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from server.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from server.models.database import Connection, Row, from_json, pool, row, rows, to_json, transaction
from server.services.locks import lock_tenancies
from server.services.manager_acts import REASON_MAX, Act, Deed, Role, may, record_act, require
from server.services.managers import Manager

ASK_LIFE = timedelta(days=7)  # who was asked has a week; then the facts are too old to be trusted
LIST_MAX = 100
# From what a manager alone puts into or takes out of one shop in 24 hours; the site file's
# [approval] says otherwise.
DEFAULT_LIMITS_FEN: Mapping[str, int] = {
    "adjustment": 10_000,
    "desk_payment": 500_000,
    "move_out_payout": 500_000,
    "refund": 100_000,
    "refund_payout": 100_000,
    "case_credit": 10_000,
}
ALONE_FOR = timedelta(hours=24)

_SHOWN = """
SELECT approval.no, approval.site_id, site.code AS site_code, site.timezone, approval.kind,
    approval.tenancy_id, approval.act, approval.asked_by_id, asker.name AS asked_by,
    asker.role AS asker_role, approval.asked_at, approval.expires_at,
    decider.name AS decided_by, approval.decided_at, approval.decision, approval.decision_reason
FROM approval JOIN site ON site.id = approval.site_id
JOIN manager asker ON asker.id = approval.asked_by_id
LEFT JOIN manager decider ON decider.id = approval.decided_by_id
"""
OF_SITES = f"""{_SHOWN} WHERE $1::bigint IS NULL OR approval.site_id = $1
ORDER BY (approval.decided_at IS NULL AND approval.expires_at > $2) DESC, approval.asked_at DESC
LIMIT {LIST_MAX}
"""
ONE = f"{_SHOWN} WHERE approval.no = $1 AND ($2::bigint IS NULL OR approval.site_id = $2)"
OF_KEY = f"""{_SHOWN} WHERE approval.site_id = $1 AND approval.kind = $2
    AND approval.act ->> 'key' = $3 ORDER BY approval.asked_at DESC LIMIT 1
"""
WAITING = """
SELECT count(*) AS asked FROM approval
WHERE ($1::bigint IS NULL OR site_id = $1) AND decided_at IS NULL AND expires_at > $2
"""
LOCK = "SELECT no FROM approval WHERE no = $1 FOR NO KEY UPDATE"
ROLE = "SELECT role FROM manager WHERE id = $1 AND (site_id IS NULL OR site_id = $2)"
NEW = """
INSERT INTO approval (no, site_id, kind, tenancy_id, act, asked_by_id, asked_at, expires_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8)
"""
DECIDED = """
UPDATE approval SET decided_by_id = $2, decided_at = $3, decision = $4, decision_reason = $5
WHERE no = $1
"""
LIMITS = "SELECT approval FROM site WHERE id = $1"
ALONE = """
SELECT coalesce(sum(abs((facts ->> 'amount_fen')::bigint)), 0)::bigint AS fen FROM manager_act
WHERE site_id = $1 AND subject = $2 AND act = $3 AND actor = $4 AND at > $5
"""

Facts = Mapping[str, str | int]


class Status(StrEnum):
    """Where an asked act stands."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Decision(StrEnum):
    """What a second person may say; the value is stored."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Approval:
    """An asked act: all that will be done, who asked, and what became of it."""

    no: str
    site_id: int
    site_code: str
    timezone: str
    kind: str
    tenancy_id: int | None
    act: Facts
    asked_by_id: int
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    status: Status
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be done, whole; `subject` is the audit log's, `key` tells a repeat from news.

    `once`: the key is good for one asking ever, whatever became of it (an Idempotency-Key). Else
    the same may be asked again once it was rejected or has expired.
    """

    site_id: int
    kind: str
    tenancy_id: int | None
    subject: str
    reason: str
    key: str
    once: bool
    facts: Facts

    @property
    def act_without_key(self) -> Facts:
        """What two clicks on one button have in common."""
        return {**self.facts, "subject": self.subject, "reason": self.reason}

    @property
    def act(self) -> Facts:
        """What is stored."""
        return {**self.act_without_key, "key": self.key}


@dataclass(frozen=True, slots=True)
class Kind:
    """Who may ask for it and decide on it, and how it is done, in the decision's transaction.

    `give_up` undoes what the asking alone has done (a reservation), where it is rejected.
    """

    needs: Act
    carry_out: Callable[[Connection, Approval, datetime], Awaitable[None]]
    give_up: Callable[[Connection, Approval, datetime], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a wish: it stands in the journal, or waits as an approval."""

    transaction_id: int | None = None
    approval_no: str | None = None


class OwnApprovalError(ForbiddenError):
    """Who asked may not decide."""

    code = "own_approval"


class ApprovalOverError(ConflictError):
    """It was decided otherwise, or too late."""

    code = "approval_over"


class OtherAskError(ConflictError):
    """The key was used for another asking; nothing was changed."""

    code = "idempotency_mismatch"


async def may_alone(
    connection: Connection,
    site_id: int,
    kind: str,
    *,
    actor: str,
    subject: str,
    amount_fen: int,
    now: datetime,
) -> bool:
    """Whether the site's limit lets this manager do it alone, with what went before in 24 hours.

    Under the tenancy's lock, or two at once would each find the limit whole.
    """
    found = await row(connection, LIMITS, site_id)
    own = from_json(found["approval"]) if found and found["approval"] else {}
    limit_fen = own.get(f"{kind}_fen", DEFAULT_LIMITS_FEN[kind])
    before = await row(connection, ALONE, site_id, subject, kind, actor, now - ALONE_FOR)
    before_fen = int(before["fen"]) if before else 0
    return abs(amount_fen) + before_fen <= int(limit_fen)


async def asked_before(connection: Connection, ask: Ask, now: datetime) -> Approval | None:
    """The asking that this one repeats, if any; raises OtherAskError."""
    found = await row(connection, OF_KEY, ask.site_id, ask.kind, ask.key)
    before = _approval(found, now) if found else None
    if before is None or not (ask.once or before.status is Status.WAITING):
        return None
    if dict(before.act) != dict(ask.act):
        raise OtherAskError(f"asked for otherwise as {before.no}")
    return before


async def ask_within(connection: Connection, ask: Ask, manager: Manager, now: datetime) -> Approval:
    """Ask for an act, under its tenancy's lock, and write into the log who asked."""
    no = f"{now:%Y%m%d}{secrets.token_hex(4)}"
    await rows(
        connection,
        NEW,
        *(no, ask.site_id, ask.kind, ask.tenancy_id, to_json(ask.act), manager.id, now),
        now + ASK_LIFE,
    )
    facts = {**ask.act, "approval_no": no, "kind": ask.kind}
    deed = Deed(ask.site_id, manager.name, "approval_asked", ask.subject, ask.reason, facts)
    await record_act(connection, deed, now)
    asked = await row(connection, ONE, no, ask.site_id)
    assert asked is not None  # noqa: S101  inserted above
    return _approval(asked, now)


async def listed(site_id: int | None, now: datetime) -> list[Approval]:
    """The newest askings of a manager's malls (None: all), those that wait first."""
    return [_approval(one, now) for one in await rows(pool(), OF_SITES, site_id, now)]


async def count_waiting(site_id: int | None, now: datetime) -> int:
    """How many askings of a manager's malls wait."""
    found = await row(pool(), WAITING, site_id, now)
    return int(found["asked"]) if found else 0


async def find(site_id: int | None, no: str, now: datetime) -> Approval:
    """One asking of a manager's malls; raises NotFoundError."""
    found = await row(pool(), ONE, no, site_id)
    if found is None:
        raise NotFoundError(f"approval {no!r}")
    return _approval(found, now)


async def decide(
    kinds: Mapping[str, Kind],
    no: str,
    manager: Manager,
    decision: Decision,
    *,
    reason: str,
    now: datetime,
) -> Approval:
    """Decide an asking, once, and do what was asked for in the same transaction.

    Raises NotFoundError, ForbiddenError (`own_approval`, or the role of now), ApprovalOverError,
    and whatever the act itself refuses: then it still waits. The same decision again changes
    nothing.
    """
    if len(reason) > REASON_MAX or "\0" in reason:
        raise InvalidInputError(f"a reason has at most {REASON_MAX} characters, and no NUL")
    seen = await find(manager.site_id, no, now)
    async with transaction() as connection:
        await lock_tenancies(connection, [] if seen.tenancy_id is None else [seen.tenancy_id])
        await rows(connection, LOCK, no)
        found = await row(connection, ONE, no, manager.site_id)
        if found is None:
            raise NotFoundError(f"approval {no!r}")
        approval, kind = _approval(found, now), kinds[found["kind"]]
        await _check(connection, approval, kind, manager, decision)
        if not _is_open(approval, manager, decision):
            return approval
        if decision is Decision.APPROVE:
            await kind.carry_out(connection, approval, now)
        elif kind.give_up is not None:
            await kind.give_up(connection, approval, now)
        await rows(connection, DECIDED, no, manager.id, now, decision.value, reason or None)
        await _record(connection, approval, manager, decision, reason, now)
    return await find(manager.site_id, no, now)


async def _check(
    connection: Connection, approval: Approval, kind: Kind, manager: Manager, decision: Decision
) -> None:
    """Another person, with the right as it is now; who asked still has it, too, if it is done."""
    if approval.asked_by_id == manager.id:
        raise OwnApprovalError("who asked may not decide")
    decider = await row(connection, ROLE, manager.id, approval.site_id)
    if decider is None:
        raise NotFoundError(f"approval {approval.no!r}")
    require(Role(decider["role"]), kind.needs)
    if decision is Decision.REJECT:
        return  # or what it reserves would be held for the rest of its week
    asker = await row(connection, ROLE, approval.asked_by_id, approval.site_id)
    if asker is None or not may(Role(asker["role"]), kind.needs):
        raise ForbiddenError("who asked may not any more")


def _is_open(approval: Approval, manager: Manager, decision: Decision) -> bool:
    """Whether it is still to be decided; not where this manager said the same before."""
    if approval.status is Status.WAITING:
        return True
    said = {Decision.APPROVE: Status.APPROVED, Decision.REJECT: Status.REJECTED}[decision]
    if approval.status is said and approval.decided_by == manager.name:
        return False
    raise ApprovalOverError(f"approval {approval.no} is {approval.status.value}")


async def _record(
    connection: Connection,
    approval: Approval,
    manager: Manager,
    decision: Decision,
    reason: str,
    now: datetime,
) -> None:
    act = "approval_approved" if decision is Decision.APPROVE else "approval_rejected"
    facts = {
        **approval.act,
        "approval_no": approval.no,
        "kind": approval.kind,
        "asked_by": approval.asked_by,
    }
    subject = str(approval.act["subject"])
    await record_act(
        connection, Deed(approval.site_id, manager.name, act, subject, reason, facts), now
    )


def _approval(found: Row, now: datetime) -> Approval:
    if found["decision"] is not None:
        status = Status.APPROVED if found["decision"] == Decision.APPROVE else Status.REJECTED
    else:
        status = Status.WAITING if now < found["expires_at"] else Status.EXPIRED
    return Approval(
        no=found["no"],
        site_id=found["site_id"],
        site_code=found["site_code"],
        timezone=found["timezone"],
        kind=found["kind"],
        tenancy_id=found["tenancy_id"],
        act=from_json(found["act"]),
        asked_by_id=found["asked_by_id"],
        asked_by=found["asked_by"],
        asked_at=found["asked_at"],
        expires_at=found["expires_at"],
        status=status,
        decided_by=found["decided_by"],
        decided_at=found["decided_at"],
        decision_reason=found["decision_reason"],
    )
