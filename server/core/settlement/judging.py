"""A meter's readings judged one after the other, each beside those of its own device."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from server.core.errors import InvalidInputError
from server.core.settlement.interval import Exchange, TrustedReading
from server.core.settlement.quarantine import MeterLimits, Verdict, follow_fault, judge


class Judgement(NamedTuple):
    """A verdict, the trusted reading before, and who takes its place where it was outvoted."""

    verdict: Verdict
    before: TrustedReading | None
    witness: TrustedReading | None


@dataclass
class _Device:
    """What is known of one device; what an exchange says of it is trusted, never outvoted."""

    limits: MeterLimits
    trusted: list[TrustedReading] = field(default_factory=list)
    apart: list[TrustedReading] = field(default_factory=list)
    began_by_exchange: bool = False


class MeterJudge:
    """Knows a meter's exchanges and the readings around those to come, and learns from each."""

    def __init__(
        self,
        limits: MeterLimits,
        exchanges: Sequence[Exchange],
        trusted: Iterable[TrustedReading] = (),
        apart: Iterable[TrustedReading] = (),
    ) -> None:
        """`limits` are the newest device's; an older one had the rollover of its exchange."""
        ordered = sorted(exchanges)
        self._exchanged_at = [one.at for one in ordered]
        older = [_Device(replace(limits, rollover_wh=one.rollover_wh)) for one in ordered]
        self._devices = [*older, _Device(limits)]
        for one, (old, new) in zip(ordered, pairwise(self._devices), strict=True):
            old.trusted.append(TrustedReading(one.at, one.final_wh))
            new.trusted.append(TrustedReading(one.at, one.first_wh))
            new.began_by_exchange = True
        for reading in trusted:
            if reading.read_at not in self._exchanged_at:  # there, only the exchange counts
                self._device_at(reading.read_at).trusted.append(reading)
        for reading in apart:
            self._device_at(reading.read_at).apart.append(reading)
        for device in self._devices:
            device.trusted.sort()
            device.apart.sort()

    def judge(self, candidate: TrustedReading, now: datetime) -> Judgement:
        """Whether it may be charged for; the next ones are judged beside it."""
        device = self._device_at(candidate.read_at)
        place = bisect_left(device.trusted, candidate)
        before = device.trusted[place - 1] if place else None
        after = device.trusted[place] if place < len(device.trusted) else None
        held = bisect_left(device.apart, candidate)
        witness = device.apart[held - 1] if held else None
        verdict = judge(
            before,
            candidate,
            after,
            device.limits,
            now,
            witness=witness,
            before_is_alone=len(device.trusted) == 1 and not device.began_by_exchange,
        )
        if verdict.outvotes_before and witness is not None:
            device.trusted = [witness]
            device.apart.remove(witness)
        else:
            witness = None
        insort(device.trusted if verdict.trusted else device.apart, candidate)
        return Judgement(verdict, before, witness)

    def _device_at(self, at: datetime) -> _Device:
        return self._devices[bisect_right(self._exchanged_at, at)]


def check_exchange(
    exchange: Exchange,
    limits: MeterLimits,
    *,
    last_exchange_at: datetime | None,
    before: TrustedReading | None,
) -> None:
    """Raises InvalidInputError where a meter cannot have been exchanged like this.

    `limits` are the new device's; `before` is the old one's last trusted reading before it.
    """
    if last_exchange_at is not None and exchange.at <= last_exchange_at:
        raise InvalidInputError(f"at: not after the exchange of {last_exchange_at.isoformat()}")
    if not 0 <= exchange.final_wh < exchange.rollover_wh:
        raise InvalidInputError(
            f"final_wh: the old register shows less than {exchange.rollover_wh}"
        )
    if not 0 <= exchange.first_wh < limits.rollover_wh:
        raise InvalidInputError(f"first_wh: the new register shows less than {limits.rollover_wh}")
    if before is None:
        return
    final = TrustedReading(exchange.at, exchange.final_wh)
    old_limits = replace(limits, rollover_wh=exchange.rollover_wh)
    fault = follow_fault(before, final, old_limits)
    if fault is not None:
        shown = f"{before.register_wh} Wh at {before.read_at.isoformat()}"
        raise InvalidInputError(f"final_wh: cannot follow {shown} ({fault.value})")
