"""A meter exchanged for another device under the same code (decision 5, docs/locks.md).

Energy over it is the old device's until its final register and the new one's from its first. What
was held apart only because nobody knew of the exchange is judged again; the days that it touches,
closed ones too, are settled anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.settlement.interval import Exchange, TrustedReading, rise_wh
from server.core.settlement.judging import MeterJudge, check_exchange
from server.core.settlement.quarantine import MeterLimits, QuarantineReason
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.admin_views import site_of_code
from server.services.day_inputs import exchange_of
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.readings import READINGS_MAX, SINCE_EVER, reverse_verdicts
from server.services.settlement_marks import Touched, mark_due

RATIO_MAX = 100_000
JUDGED_AGAIN_BEFORE = timedelta(days=31)  # what was held apart longer ago stays so
# An exchange explains these; any other reason is the reading's own.
EXPLAINED = (
    QuarantineReason.OUT_OF_RANGE,
    QuarantineReason.ZERO,
    QuarantineReason.BACKWARD,
    QuarantineReason.JUMP,
    QuarantineReason.CONTRADICTS_LATER,
    "outvoted",
)

FOUND = "SELECT id FROM meter WHERE ($1::bigint IS NULL OR site_id = $1) AND code = $2 LIMIT 2"
# The lock with which readings are kept: nobody judges by the old device while it is replaced.
METER = """
SELECT meter.id, meter.site_id, meter.code, meter.gateway_id, meter.max_power_w,
       meter.rollover_wh, meter.transformer_ratio
FROM meter_status status JOIN meter ON meter.id = status.meter_id
WHERE meter.id = $1 FOR NO KEY UPDATE OF status
"""
EXCHANGES = """
SELECT exchanged_at, final_wh, first_wh, transformer_ratio, rollover_wh FROM meter_exchange
WHERE meter_id = $1 ORDER BY exchanged_at
"""
# What the exchange may explain, and the trusted readings from the one before it on.
READINGS = """
WITH explained AS (
    SELECT least($3, (
        SELECT min(read_at) FROM reading
        WHERE site_id = $1 AND meter_id = $2 AND verdict = 'quarantined'
          AND read_at > $4 AND reason = ANY($5::text[]))) AS since
), before AS (
    SELECT coalesce((
        SELECT max(read_at) FROM reading
        WHERE site_id = $1 AND meter_id = $2 AND verdict = 'trusted'
          AND read_at < (SELECT since FROM explained)), (SELECT since FROM explained)) AS since
)
SELECT read_at, register_wh, verdict, reason FROM reading
WHERE site_id = $1 AND meter_id = $2 AND read_at >= (SELECT since FROM before)
ORDER BY read_at LIMIT $6
"""
EXCHANGE = """
INSERT INTO meter_exchange (meter_id, exchanged_at, final_wh, first_wh, transformer_ratio,
                            rollover_wh, reason, made_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id
"""
# The new device names itself at its first look.
NEW_DEVICE = "UPDATE meter SET identity = NULL, transformer_ratio = $2 WHERE id = $1"
# A finding that the exchange explains ends; the newest trusted reading may be another one now.
STATUS = """
UPDATE meter_status SET read_at = coalesce($2, read_at), register_wh = coalesce($3, register_wh),
    finding = CASE WHEN finding LIKE 'identity_changed:%' OR finding LIKE 'quarantined:%'
                   THEN NULL ELSE finding END
WHERE meter_id = $1
"""


@dataclass(frozen=True, slots=True)
class ExchangeWish:
    """What a manager says of an exchange; `transformer_ratio` is the new device's, None: as was."""

    at: datetime
    final_wh: int
    first_wh: int
    reason: str
    transformer_ratio: int | None = None


@dataclass(frozen=True, slots=True)
class CountedBy:
    """What both devices counted around an exchange, ratio included; None where nothing tells.

    The old one since its last reading before it, the new one until its newest trusted one.
    """

    before: TrustedReading | None
    old_wh: int | None
    newest: TrustedReading | None
    new_wh: int | None


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """What was recorded, and how many readings count now that were held apart."""

    exchange_id: int
    gateway_id: int
    transformer_ratio: int
    readings_trusted: int
    counted: CountedBy


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """The verdicts that change, the newest trusted reading, and from when on days change."""

    changes: Sequence[tuple[datetime, str, str | None]]
    newest: TrustedReading | None
    touched_from: datetime


@dataclass(frozen=True, slots=True)
class JudgedExchange:
    """An exchange that can be, under the locks of its meter's readings and of its days' marks."""

    meter: Row
    exchange: Exchange
    new_ratio: int
    verdicts: _Verdicts
    counted: CountedBy


async def find_meter(site_id: int | None, code: str, site_code: str | None) -> int:
    """The one meter of this code; ConflictError (`site_needed`) where several malls have it."""
    if site_code is not None:
        site_id = (await site_of_code(site_id, site_code)).id
    found = await rows(pool(), FOUND, site_id, code)
    if not found:
        raise NotFoundError(f"meter {code!r}")
    if len(found) > 1:
        raise ConflictError(f"meter {code!r}", code="site_needed")
    return int(found[0]["id"])


async def record_exchange(
    meter_id: int, wish: ExchangeWish, *, actor: str, now: datetime
) -> RecordedExchange:
    """Record that a meter was exchanged, once; raises InvalidInputError or ConflictError.

    What it would do is shown before anybody gives a reason (services/exchange_previews).
    """
    check_reason(wish.reason)
    async with transaction() as connection:
        judged = await judge_within(connection, meter_id, wish, now)
        return await apply_within(connection, judged, wish, actor=actor, now=now)


async def judge_within(
    connection: Connection, meter_id: int, wish: ExchangeWish, now: datetime
) -> JudgedExchange:
    """What an exchange makes of the readings, with its days marked; raises what recording raises.

    Takes the locks up to those of the marks (docs/locks.md), `apply_within` the meter's.
    """
    if wish.transformer_ratio is not None and not 1 <= wish.transformer_ratio <= RATIO_MAX:
        raise InvalidInputError(f"transformer_ratio: is from 1 to {RATIO_MAX}")
    if not SINCE_EVER <= wish.at <= now:
        raise InvalidInputError("at: lies in the future, or before 2000")
    meter = await row(connection, METER, meter_id)
    if meter is None:
        raise NotFoundError("no such meter")
    earlier = [exchange_of(one) for one in await rows(connection, EXCHANGES, meter_id)]
    ratio, rollover_wh = meter["transformer_ratio"], meter["rollover_wh"]
    exchange = Exchange(wish.at, wish.final_wh, wish.first_wh, ratio, rollover_wh)
    found = await _readings(connection, meter, exchange, earlier)
    before = _before(found, exchange, earlier)
    limits = MeterLimits(max_power_w=meter["max_power_w"], rollover_wh=rollover_wh)
    last_exchange_at = earlier[-1].at if earlier else None
    check_exchange(exchange, limits, last_exchange_at=last_exchange_at, before=before)
    verdicts = _judge_again(limits, [*earlier, exchange], found, now)
    await mark_due(connection, [Touched(meter_id, verdicts.touched_from)], now)
    new_ratio = wish.transformer_ratio or ratio
    counted = _counted(exchange, before, verdicts.newest, new_ratio)
    return JudgedExchange(meter, exchange, new_ratio, verdicts, counted)


def _counted(
    exchange: Exchange,
    before: TrustedReading | None,
    newest: TrustedReading | None,
    new_ratio: int,
) -> CountedBy:
    """The energy of both devices around the exchange."""
    old_wh, new_wh = None, None
    if before is not None:
        rise = rise_wh(before.register_wh, exchange.final_wh, exchange.rollover_wh)
        old_wh = rise * exchange.transformer_ratio
    if newest is not None and newest.read_at <= exchange.at:
        newest = None
    if newest is not None:
        rise = rise_wh(exchange.first_wh, newest.register_wh, exchange.rollover_wh)
        new_wh = rise * new_ratio
    return CountedBy(before, old_wh, newest, new_wh)


async def _readings(
    connection: Connection, meter: Row, exchange: Exchange, earlier: Sequence[Exchange]
) -> list[Row]:
    """The readings that the exchange touches, ascending, of the devices that it ends and begins."""
    since = exchange.at - JUDGED_AGAIN_BEFORE
    since = max(since, earlier[-1].at) if earlier else since
    found = await rows(
        connection,
        READINGS,
        meter["site_id"],
        meter["id"],
        exchange.at,
        since,
        list(EXPLAINED),
        READINGS_MAX + 1,
    )
    if len(found) > READINGS_MAX:
        raise InvalidInputError(f"at: more than {READINGS_MAX} readings since; it is too long ago")
    return found


def _before(
    found: Sequence[Row], exchange: Exchange, earlier: Sequence[Exchange]
) -> TrustedReading | None:
    """The last that was trusted of the old device."""
    trusted = [_shown(one) for one in found if one["verdict"] == "trusted"]
    trusted += [TrustedReading(one.at, one.first_wh) for one in earlier]
    return max((one for one in trusted if one.read_at < exchange.at), default=None)


def _shown(found: Row) -> TrustedReading:
    return TrustedReading(found["read_at"], found["register_wh"])


def _judge_again(
    limits: MeterLimits, exchanges: Sequence[Exchange], found: Sequence[Row], now: datetime
) -> _Verdicts:
    """The verdicts as they are with the newest exchange; what was trusted stays so, or it is wrong.

    At its very instant only the exchange counts.
    """
    at = exchanges[-1].at
    again = [one for one in found if _depends(one, at)]
    known = [one for one in found if not _depends(one, at)]
    trusted = [_shown(one) for one in known if one["verdict"] == "trusted"]
    apart = [_shown(one) for one in known if one["verdict"] == "quarantined"]
    judge = MeterJudge(limits, exchanges, trusted, apart)
    changes: list[tuple[datetime, str, str | None]] = []
    for one in again:
        verdict, _, _ = judge.judge(_shown(one), now)
        reason = verdict.reason and verdict.reason.value
        if verdict.trusted:
            trusted.append(_shown(one))
        elif one["verdict"] == "trusted":
            text = f"{one['register_wh']} Wh at {one['read_at'].isoformat()} was trusted and cannot"
            raise ConflictError(f"at: the reading of {text} follow from it ({reason})")
        if reason != one["reason"]:
            changes.append((one["read_at"], "trusted" if reason is None else "quarantined", reason))
    since = min([at, *(changed_at for changed_at, _, _ in changes)])
    before = max((one.read_at for one in trusted if one.read_at < since), default=SINCE_EVER)
    return _Verdicts(changes, max(trusted, default=None), before)


def _depends(one: Row, at: datetime) -> bool:
    """Whether a reading's verdict can be another one because of an exchange at this instant."""
    if one["verdict"] == "trusted":
        return bool(one["read_at"] > at)
    return one["reason"] in EXPLAINED and one["read_at"] != at


async def apply_within(
    connection: Connection, judged: JudgedExchange, wish: ExchangeWish, *, actor: str, now: datetime
) -> RecordedExchange:
    """Write the exchange down, with the verdicts that it changes."""
    meter, exchange = judged.meter, judged.exchange
    made = await row(connection, EXCHANGE, meter["id"], *exchange, wish.reason, actor, now)
    assert made is not None  # noqa: S101  inserted
    changes, newest = judged.verdicts.changes, judged.verdicts.newest
    await reverse_verdicts(connection, meter, changes)
    await rows(connection, NEW_DEVICE, meter["id"], judged.new_ratio)
    await rows(connection, STATUS, meter["id"], *(newest or (None, None)))
    facts = {
        "at": wish.at.isoformat(),
        "final_wh": wish.final_wh,
        "first_wh": wish.first_wh,
        "ratios": [exchange.transformer_ratio, judged.new_ratio],
    }
    subject = f"meter:{meter['code']}"
    deed = Deed(meter["site_id"], actor, "meter.exchange", subject, wish.reason, facts)
    await record_act(connection, deed, now)
    trusted = sum(verdict == "trusted" for _, verdict, _ in changes)
    return RecordedExchange(
        made["id"], meter["gateway_id"], judged.new_ratio, trusted, judged.counted
    )
