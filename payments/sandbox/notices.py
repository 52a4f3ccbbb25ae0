"""Notices on their way to the notifier, and what the faults of the table do to them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from payments.contract import Platform
from payments.sandbox.faults import Faults, Kind
from payments.sandbox.notifier import Delivery, Later, Notifier

HELD_MAX = 1_000


class Notices:
    """Lost, delayed, repeated or reordered on demand; otherwise delivered as they come."""

    def __init__(
        self, notifier: Notifier, later: Later, faults: Faults, now: Callable[[], datetime]
    ) -> None:
        self._notifier = notifier
        self._later = later
        self._faults = faults
        self._now = now
        self._held: dict[Platform, list[Delivery]] = {platform: [] for platform in Platform}

    def send(self, platform: Platform, call: str, delivery: Delivery) -> None:
        """Start a notice ("notice" or "refund_notice"); raises NotifierFullError."""
        if self._happens(platform, call, Kind.NOTICE_LOST):
            self._later.after(0, lambda: delivery.on_accepted(self._now()))  # as if it were taken
            return
        late = self._faults.take(platform, call, [Kind.NOTICE_DELAYED])
        if late is not None:
            first, *rest = delivery.delays_s
            delivery = replace(delivery, delays_s=(first + late.seconds, *rest))
        if self._happens(platform, call, Kind.NOTICE_REPEATED):
            delivery = replace(delivery, on_end=self._again(delivery))
        held = self._held[platform]
        if len(held) < HELD_MAX and self._happens(platform, call, Kind.NOTICE_REORDERED):
            held.append(delivery)
            return
        if held:
            delivery = replace(delivery, on_end=self._then_release(platform, delivery.on_end))
        self._notifier.send(delivery)

    def release(self, platform: Platform) -> None:
        """Send what was held back to come after another one."""
        held, self._held[platform] = self._held[platform], []
        for delivery in held:
            self._notifier.send(delivery)

    def _happens(self, platform: Platform, call: str, kind: Kind) -> bool:
        return self._faults.take(platform, call, [kind]) is not None

    def _again(self, delivery: Delivery) -> Callable[[], None]:
        second = replace(delivery, key=(*delivery.key, "again"), delays_s=(0.0,))
        return lambda: self._notifier.send(second)

    def _then_release(
        self, platform: Platform, then: Callable[[], None] | None
    ) -> Callable[[], None]:
        def ended() -> None:
            if then is not None:
                then()
            self.release(platform)

        return ended
