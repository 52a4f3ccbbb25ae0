"""Whether a new reading may be charged for, or is held apart and why."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from server.core.errors import InvalidInputError
from server.core.settlement.interval import MICROSECOND, TrustedReading

# More than any low-voltage meter carries directly; only for a profile that names no limit.
DEFAULT_MAX_POWER_W = 1_000_000
# The coarsest register that we know counts whole kilowatt-hours, so that one step may be this much.
DEFAULT_REGISTER_STEP_WH = 1_000
# Collectors stamp readings with their own clocks, which may differ from the judge's by this much.
FUTURE_TOLERANCE = timedelta(seconds=60)
# Should a gateway answer from a cache, the next reading catches up. Assumed, not measured (ADR 17).
CACHED_FOR = timedelta(minutes=5)
# A meter may run this far above its rated power: 11/10.
_MARGIN_TENTHS = 11
# A register that rolls over is in its last tenth before, and in its first tenth after.
_ROLLOVER_PART = 10
_MICROSECONDS_PER_HOUR = 3_600_000_000


class QuarantineReason(StrEnum):
    """Why a reading is held apart, in the order in which the reasons are tried."""

    FUTURE = "future"
    OUT_OF_RANGE = "out_of_range"
    REPEATED_DIFFERENTLY = "repeated_differently"
    ZERO = "zero"
    BACKWARD = "backward"
    JUMP = "jump"
    CONTRADICTS_LATER = "contradicts_later"


@dataclass(frozen=True)
class MeterLimits:
    """What a meter's register can do, before the transformer ratio."""

    max_power_w: int | None
    rollover_wh: int
    register_step_wh: int = DEFAULT_REGISTER_STEP_WH


@dataclass(frozen=True)
class Verdict:
    """Trusted where there is no reason.

    `outvotes_before`: trust the witness too, and hold the lone reading before them apart.
    """

    reason: QuarantineReason | None = None
    outvotes_before: bool = False

    @property
    def trusted(self) -> bool:
        """Whether the reading may be charged for."""
        return self.reason is None


def judge(
    before: TrustedReading | None,
    candidate: TrustedReading,
    after: TrustedReading | None,
    limits: MeterLimits,
    now: datetime,
    *,
    witness: TrustedReading | None,
    before_is_alone: bool,
) -> Verdict:
    """Whether `candidate` fits between the trusted readings next to it in time.

    `witness` is the latest reading held apart since `before`. Where `before` is the meter's only
    trusted reading (`before_is_alone`), nothing was ever charged by it, and two later readings that
    agree with each other outvote it: a first reading that was bad does not shut out the good ones.
    """
    if before is not None and before.read_at > candidate.read_at:
        raise InvalidInputError("the reading before lies after the candidate")
    if after is not None and after.read_at < candidate.read_at:
        raise InvalidInputError("the reading after lies before the candidate")
    reason = (
        _own_fault(candidate, limits, now)
        or _against_before(before, candidate, limits)
        or _against_after(candidate, after, limits)
    )
    if (
        reason in {QuarantineReason.BACKWARD, QuarantineReason.JUMP}
        and before_is_alone
        and before is not None
        and witness is not None
        and before.read_at < witness.read_at < candidate.read_at
        and witness.register_wh > 0
        and follow_fault(witness, candidate, limits) is None
        and _own_fault(witness, limits, now) is None
        and _against_after(candidate, after, limits) is None
    ):
        return Verdict(outvotes_before=True)
    return Verdict(reason)


def _own_fault(
    candidate: TrustedReading, limits: MeterLimits, now: datetime
) -> QuarantineReason | None:
    if candidate.read_at > now + FUTURE_TOLERANCE:
        return QuarantineReason.FUTURE
    if not 0 <= candidate.register_wh < limits.rollover_wh:
        return QuarantineReason.OUT_OF_RANGE
    return None


def _against_before(
    before: TrustedReading | None, candidate: TrustedReading, limits: MeterLimits
) -> QuarantineReason | None:
    if before is None:
        return None
    if before.read_at == candidate.read_at:
        same = before.register_wh == candidate.register_wh
        return None if same else QuarantineReason.REPEATED_DIFFERENTLY
    if candidate.register_wh == 0 < before.register_wh:
        # Even a rollover may wait: the next reading above zero proves it, and no energy is lost.
        return QuarantineReason.ZERO
    return follow_fault(before, candidate, limits)


def _against_after(
    candidate: TrustedReading, after: TrustedReading | None, limits: MeterLimits
) -> QuarantineReason | None:
    if after is None:
        return None
    if after.read_at == candidate.read_at:
        same = after.register_wh == candidate.register_wh
        return None if same else QuarantineReason.REPEATED_DIFFERENTLY
    if follow_fault(candidate, after, limits) is not None:
        return QuarantineReason.CONTRADICTS_LATER
    return None


def follow_fault(
    earlier: TrustedReading, later: TrustedReading, limits: MeterLimits
) -> QuarantineReason | None:
    """BACKWARD or JUMP where one register cannot have come from the other in that time."""
    rise = later.register_wh - earlier.register_wh
    most = most_energy_wh(limits, later.read_at - earlier.read_at + CACHED_FOR)
    if rise >= 0:
        return QuarantineReason.JUMP if rise > most else None
    edge = limits.rollover_wh // _ROLLOVER_PART
    at_top = earlier.register_wh >= limits.rollover_wh - edge
    if at_top and later.register_wh < edge and rise + limits.rollover_wh <= most:
        return None
    return QuarantineReason.BACKWARD


def most_energy_wh(limits: MeterLimits, time: timedelta) -> int:
    """The most that a register can rise in this time, rounded up, and one register step more."""
    power_w = DEFAULT_MAX_POWER_W if limits.max_power_w is None else limits.max_power_w
    tenths = power_w * _MARGIN_TENTHS * (time // MICROSECOND)
    return -(-tenths // (10 * _MICROSECONDS_PER_HOUR)) + limits.register_step_wh
