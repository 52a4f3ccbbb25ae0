"""One simulated meter: a counter that follows its load, a relay, an identity, and its faults."""

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo

from server.devices.simulator.clock import Clock
from server.devices.simulator.config import MeterConfig
from server.devices.simulator.faults import CONDITIONS, Fault, FaultName
from server.devices.simulator.load import (
    WATT_US_PER_WH,
    Load,
    noise,
    power_w,
    slot_of,
    spans,
)
from server.devices.simulator.memory import Memory, StateFolder

ROLLOVER_WH = 1_000_000_000  # 999999.99 kWh is followed by zero
SHOWN_WH = 10  # every simulated model shows hundredths of a kWh
_PERMILLE = 1000
_SHARP, _PEAK, _FLAT, _VALLEY = range(4)
# Which period register counts at which local hour, in the order of memory.PERIODS.
_PERIOD_OF_HOUR = tuple("spfv".index(letter) for letter in "vvvvvvvvffppffffffssssff")
_START_SHARES_PERMILLE = (260, 120, 400, 220)
_MAINS_DECIVOLTS, _MAINS_NOISE_DECIVOLTS = 2_290, 60
_POWER_FACTOR_PERMILLE, _POWER_FACTOR_NOISE = 955, 25


def first_memory(config: MeterConfig) -> Memory:
    """A new meter's memory: the register stands where the configuration says."""
    total = config.start_wh * config.ratio * WATT_US_PER_WH
    return Memory(total, _split(total), config.identity)


def _split(total_watt_us: int) -> list[int]:
    """A start value over the period registers, adding up to it."""
    parts = [total_watt_us * share // _PERMILLE for share in _START_SHARES_PERMILLE]
    parts[_FLAT] += total_watt_us - sum(parts)
    return parts


class Meter:
    """Shows nothing that it has not kept: what was read once is never undercut by a restart."""

    def __init__(
        self, config: MeterConfig, zone: tzinfo, clock: Clock, folder: StateFolder | None
    ) -> None:
        self.config = config
        self.code = config.code
        self._zone = zone
        self._clock = clock
        self._folder = folder
        kept = None if folder is None else folder.load(config.code)
        self._memory = kept or first_memory(config)
        self._loads = tuple(Load(load.trade, load.seed, load.scale) for load in config.loads)
        self._feeds: tuple[Meter, ...] = ()
        self._feeders: list[Meter] = []
        self._faults: dict[FaultName, Fault] = {}
        self._counted_until_us = clock.monotonic_us()
        self._kept_shown: tuple[int, ...] = ()
        self.keep()

    # The load

    def feed(self, meters: Iterable["Meter"]) -> None:
        """Makes this a feeder: it counts what these meters count, and its losses."""
        self._feeds = tuple(meters)
        for meter in self._feeds:
            meter._feeders.append(self)  # noqa: SLF001 - its own class

    def advance(self) -> None:
        """Counts what has flowed since the last call; time without this process adds nothing."""
        for meter in self._feeds:
            meter.advance()
        now, monotonic_us = self._clock.now(), self._clock.monotonic_us()
        elapsed = timedelta(microseconds=monotonic_us - self._counted_until_us)
        self._counted_until_us = monotonic_us
        if not self.contact_connected:
            return
        for load in self._loads:
            for span in spans(load, now - elapsed, now, self._zone):
                self._count(_PERIOD_OF_HOUR[span.local_hour], span.watt_us)

    def _count(self, period: int, watt_us: int) -> None:
        for feeder in self._feeders:
            with_losses = watt_us * (_PERMILLE + feeder.config.loss_permille) // _PERMILLE
            feeder._count(period, with_losses)  # noqa: SLF001 - its own class
        if FaultName.COUNTER_FROZEN not in self._faults:
            self._memory.total_watt_us += watt_us
            self._memory.period_watt_us[period] += watt_us

    def keep(self) -> None:
        """Writes the memory down."""
        # A few hundred bytes into the page cache, on the event loop on purpose: a value must not
        # leave before it is kept.
        if self._folder is not None:
            self._folder.save(self.code, self._memory)
        self._kept_shown = self._shown()
        self._kept_watt_us = self._memory.total_watt_us

    def keep_progress(self) -> None:
        """Counts, and keeps what has been counted since the last time, shown or not."""
        self.advance()
        if self._memory.total_watt_us != self._kept_watt_us:
            self.keep()

    def _shown(self) -> tuple[int, ...]:
        counters = (self._memory.total_watt_us, *self._memory.period_watt_us)
        return tuple(self._register_wh(counter) // SHOWN_WH for counter in counters)

    def _register_wh(self, watt_us: int) -> int:
        return watt_us // (WATT_US_PER_WH * self.config.ratio)

    # What it shows

    @property
    def register_wh(self) -> int:
        """The total as it would be read, in whole watt-hours."""
        self.advance()
        return self._register_wh(self._memory.total_watt_us) % ROLLOVER_WH

    def show_energy_wh(self) -> int:
        """The total for an answer: kept before it is shown."""
        if self._faults.pop(FaultName.ZERO_ONCE, None) is not None:
            return 0
        return self._show(self._memory.total_watt_us)

    def show_sharp_wh(self) -> int:
        """The register of the sharp period."""
        return self._show(self._memory.period_watt_us[_SHARP])

    def show_peak_wh(self) -> int:
        """The register of the peak period."""
        return self._show(self._memory.period_watt_us[_PEAK])

    def show_flat_wh(self) -> int:
        """The register of the flat period."""
        return self._show(self._memory.period_watt_us[_FLAT])

    def show_valley_wh(self) -> int:
        """The register of the valley period."""
        return self._show(self._memory.period_watt_us[_VALLEY])

    def _show(self, watt_us: int) -> int:
        if self._shown() != self._kept_shown:
            self.keep()
        return self._register_wh(watt_us) % ROLLOVER_WH

    def drawn_w(self) -> int:
        """What the customer draws now, before the transformer."""
        if not self.contact_connected:
            return 0
        now = self._clock.now()
        own_w = sum(power_w(load, now, self._zone) for load in self._loads)
        fed_w = sum(meter.drawn_w() for meter in self._feeds)
        return own_w + fed_w * (_PERMILLE + self.config.loss_permille) // _PERMILLE

    def show_power_w(self) -> int:
        """The power behind the transformer."""
        return self.drawn_w() // self.config.ratio

    def show_decivolts(self) -> int:
        """The voltage of phase A in tenths of a volt."""
        return _MAINS_DECIVOLTS + self._wobble(_MAINS_NOISE_DECIVOLTS)

    def show_power_factor_permille(self) -> int:
        """The power factor in thousandths."""
        return _POWER_FACTOR_PERMILLE + self._wobble(_POWER_FACTOR_NOISE)

    def show_current_ma(self) -> int:
        """The current of the one phase: P = U I cos phi."""
        volt_amperes_x10000 = self.show_decivolts() * self.show_power_factor_permille()
        return self.show_power_w() * 10_000_000 // volt_amperes_x10000

    def _wobble(self, spread: int) -> int:
        return noise(self._memory.identity + spread, slot_of(self._clock.now()), spread)

    def local_now(self) -> datetime:
        """The meter's own clock."""
        return self._clock.now().astimezone(self._zone)

    def show_identity(self) -> int:
        """The number by which an exchange is noticed."""
        return self._memory.identity

    # The relay

    @property
    def commanded_connected(self) -> bool:
        """The last command's wish."""
        return self._memory.commanded_connected

    @property
    def contact_connected(self) -> bool:
        """Whether current flows, whatever the relay reports."""
        if FaultName.WELDED in self._faults or FaultName.WELDED_UNSEEN in self._faults:
            return True
        return FaultName.STUCK_OPEN not in self._faults and self._memory.commanded_connected

    @property
    def shown_connected(self) -> bool:
        """What a read-back says."""
        if FaultName.WELDED_UNSEEN in self._faults:
            return self._memory.commanded_connected
        return self.contact_connected

    def show_connected(self) -> int:
        """The same as a bit."""
        return int(self.shown_connected)

    @property
    def forced(self) -> bool:
        """Whether a forced control is in force (Acrel)."""
        return self._memory.forced

    @property
    def permitted(self) -> bool:
        """Whether closing is permitted and waits for the button (DL/T 645)."""
        return self._memory.permitted

    @property
    def protected(self) -> bool:
        """Whether the supply is protected against trips (DL/T 645)."""
        return self._memory.protected

    def command_relay(self, *, connect: bool, forced: bool = False) -> None:
        """Obeys a command; kept before it is acknowledged."""
        self.advance()
        self._memory.commanded_connected = connect
        self._memory.forced = forced
        self._memory.permitted = False
        self.keep()

    def permit_closing(self) -> None:
        """DL/T 645 1B: somebody may now press the button."""
        self._memory.permitted = not self._memory.commanded_connected
        self.keep()

    def press_button(self) -> bool:
        """Somebody at the meter presses the button: closes if that is permitted."""
        if not self._memory.permitted:
            return False
        self.command_relay(connect=True)
        return True

    def protect(self, *, protected: bool) -> None:
        """DL/T 645 3A and 3B: supply protection on and off."""
        self._memory.protected = protected
        self.keep()

    # Faults

    def add_fault(self, fault: Fault) -> None:
        """Lets something go wrong from now on; what has flowed until now counts as before."""
        self.advance()
        self._faults[fault.name] = fault

    def clear_faults(self) -> None:
        """All well again."""
        self.advance()
        self._faults.clear()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong now."""
        return tuple(self._faults.values())

    def take_wire_faults(self) -> dict[FaultName, Fault]:
        """The faults that hit this answer; counted ones are used up."""
        hit = {name: fault for name, fault in self._faults.items() if name not in CONDITIONS}
        for name, fault in hit.items():
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    del self._faults[name]
        return hit

    def shift_counter(self, by_wh: int) -> None:
        """The register jumps (or, below zero, goes back) by this much; not below zero."""
        self.set_register(max(0, self.register_wh + by_wh))

    def set_register(self, wh: int) -> None:
        """The total register stands here from now on."""
        self.advance()
        self._memory.total_watt_us = wh * self.config.ratio * WATT_US_PER_WH
        self.keep()

    def exchange(self, *, identity: int, start_wh: int = 0) -> None:
        """Another meter hangs here: its own identity and counters, relay connected."""
        self.advance()
        total = start_wh * self.config.ratio * WATT_US_PER_WH
        self._memory = Memory(total, _split(total), identity)
        self.keep()
