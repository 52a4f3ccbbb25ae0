"""A simulated meter: counts while connected, keeps what it showed, stands still while stopped."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.devices.simulator.clock import HandClock
from server.devices.simulator.config import LoadConfig, MeterConfig
from server.devices.simulator.faults import Fault, FaultName
from server.devices.simulator.load import energy_wh
from server.devices.simulator.memory import StateFolder
from server.devices.simulator.meter import Meter
from server.devices.simulator.trades import Trade

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 6, 3, 11, 50, tzinfo=UTC)
HOUR = timedelta(hours=1)


def config(**changes: object) -> MeterConfig:
    fields = {
        "code": "M-1",
        "profile": "example/demo-relay",
        "unit": 1,
        "start_wh": 123_450,
        "identity": 77,
        "loads": [{"trade": "restaurant", "seed": 9}],
    }
    return msgspec.convert(fields | changes, MeterConfig)


def awake(
    clock: HandClock, folder: StateFolder | None = None, meter_config: MeterConfig | None = None
) -> Meter:
    return Meter(meter_config or config(), ZONE, clock, folder)


def answer(meter: Meter) -> int:
    """What the bus does for a request: count, then show."""
    meter.advance()
    return meter.show_energy_wh()


def used_wh(start: datetime, end: datetime) -> int:
    return energy_wh(Trade.RESTAURANT, 9, 1000, start, end, ZONE)


@given(st.lists(st.timedeltas(timedelta(0), timedelta(hours=5)), max_size=12))
def test_the_counter_follows_the_curve_however_often_it_is_read(steps: list[timedelta]) -> None:
    clock = HandClock(START)
    meter = awake(clock)
    for step in steps:
        clock.advance(step)
        answer(meter)
    expected = 123_450 + used_wh(START, START + sum(steps, timedelta(0)))
    assert abs(meter.register_wh - expected) <= 1  # the curve's floors against one floor


def test_nothing_flows_while_disconnected() -> None:
    clock = HandClock(START)
    meter = awake(clock)
    clock.advance(HOUR)
    meter.command_relay(connect=False)
    stood = meter.register_wh
    clock.advance(HOUR)
    assert (meter.register_wh, meter.drawn_w()) == (stood, 0)
    meter.command_relay(connect=True)
    clock.advance(HOUR)
    assert abs(meter.register_wh - stood - used_wh(START + 2 * HOUR, START + 3 * HOUR)) <= 1


def test_a_step_of_the_wall_clock_adds_nothing() -> None:
    clock = HandClock(START)
    meter = awake(clock)
    clock.step_wall(timedelta(hours=9))
    assert meter.register_wh == 123_450
    clock.step_wall(timedelta(days=-2))
    assert meter.register_wh == 123_450


def test_it_stands_still_while_stopped_and_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = HandClock(START)
    folder = StateFolder(tmp_path)
    meter = awake(clock, folder)
    clock.advance(HOUR)
    shown = answer(meter)
    meter.command_relay(connect=False)
    folder.close()
    clock.advance(5 * HOUR)
    with closing(StateFolder(tmp_path)) as folder:
        again = awake(clock, folder, config(start_wh=9, identity=1))
        assert (answer(again), again.show_identity()) == (shown, 77)
        assert not again.contact_connected


@given(st.lists(st.timedeltas(timedelta(0), timedelta(minutes=20)), min_size=1, max_size=10))
def test_a_killed_meter_never_shows_less_than_it_showed(steps: list[timedelta]) -> None:
    clock = HandClock(START)
    memory: dict[str, bytes] = {}
    folder = FolderInMemory(memory)
    shown = 0
    for step in steps:
        killed = awake(clock, folder)  # the one before it ended without a word
        assert answer(killed) // 10 >= shown
        clock.advance(step)
        shown = answer(killed) // 10


class FolderInMemory(StateFolder):
    """The same without a disk, for Hypothesis' many examples."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _read(self, code: str) -> bytes | None:
        return self._files.get(code)

    def _write(self, code: str, data: bytes) -> None:
        self._files[code] = data


def test_two_processes_never_keep_the_same_folder(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    with pytest.raises(InvalidInputError, match="another simulator"):
        StateFolder(tmp_path)
    first.close()
    StateFolder(tmp_path).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"total_watt_us":1,"period_watt_us":[1],"identity":1}',
        b'{"total_watt_us":"x","period_watt_us":[1,2,3,4],"identity":1}',
    ],
)
def test_a_spoilt_memory_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "M-1.json").write_bytes(content)
    with (
        closing(StateFolder(tmp_path)) as folder,
        pytest.raises(InvalidInputError, match=r"M-1\.json"),
    ):
        awake(HandClock(START), folder)


def test_behind_a_transformer_the_register_counts_a_part() -> None:
    clock = HandClock(START)
    meter = awake(clock, meter_config=config(ratio=20, start_wh=1_000))
    clock.advance(HOUR)
    assert abs(meter.register_wh - 1_000 - used_wh(START, START + HOUR) // 20) <= 1
    assert meter.show_power_w() == meter.drawn_w() // 20


def test_a_feeder_counts_its_meters_and_its_losses() -> None:
    clock = HandClock(START)
    one, two = awake(clock), awake(clock, meter_config=config(code="M-2"))
    feeder_config = config(code="F", loads=[], feeds=["M-1", "M-2"], loss_permille=15, start_wh=0)
    feeder = awake(clock, meter_config=feeder_config)
    feeder.feed([one, two])
    clock.advance(HOUR)
    both = one.register_wh + two.register_wh - 2 * 123_450
    assert abs(feeder.register_wh - both * 1015 // 1000) <= 2
    assert feeder.drawn_w() == (one.drawn_w() + two.drawn_w()) * 1015 // 1000
    two.command_relay(connect=False)
    assert feeder.drawn_w() == one.drawn_w() * 1015 // 1000


def test_period_registers_add_up_to_the_total() -> None:
    clock = HandClock(START)
    meter = awake(clock)
    clock.advance(timedelta(days=2))
    meter.advance()
    periods = (
        meter.show_sharp_wh(),
        meter.show_peak_wh(),
        meter.show_flat_wh(),
        meter.show_valley_wh(),
    )
    assert 0 <= meter.show_energy_wh() - sum(periods) <= len(periods)
    assert min(periods) > 0


def test_the_register_rolls_over() -> None:
    clock = HandClock(START)
    meter = awake(clock, meter_config=config(start_wh=999_999_990))
    clock.advance(HOUR)
    assert abs(meter.register_wh + 10 - used_wh(START, START + HOUR)) <= 1


@pytest.mark.parametrize(
    ("fault", "commanded", "flows", "shows"),
    [
        (None, False, False, False),
        (None, True, True, True),
        (FaultName.WELDED, False, True, True),
        (FaultName.WELDED_UNSEEN, False, True, False),
        (FaultName.STUCK_OPEN, True, False, False),
    ],
)
def test_a_relay_may_disobey(
    fault: FaultName | None, commanded: bool, flows: bool, shows: bool
) -> None:
    meter = awake(HandClock(START))
    if fault is not None:
        meter.add_fault(Fault(fault))
    meter.command_relay(connect=commanded)
    assert (meter.contact_connected, meter.shown_connected) == (flows, shows)


def test_a_frozen_counter_stands_although_power_flows() -> None:
    clock = HandClock(START)
    meter = awake(clock)
    meter.add_fault(Fault(FaultName.COUNTER_FROZEN))
    clock.advance(HOUR)
    assert meter.register_wh == 123_450
    assert meter.drawn_w() > 0
    meter.clear_faults()
    clock.advance(HOUR)
    assert meter.register_wh > 123_450


def test_zero_is_shown_once() -> None:
    meter = awake(HandClock(START))
    meter.add_fault(Fault(FaultName.ZERO_ONCE))
    assert [meter.show_energy_wh() for _ in range(3)] == [0, 123_450, 123_450]


@pytest.mark.parametrize(
    ("by_wh", "then"), [(50_000, 173_450), (-23_450, 100_000), (-200_000, 0), (0, 123_450)]
)
def test_a_counter_jumps_and_goes_back(by_wh: int, then: int) -> None:
    meter = awake(HandClock(START))
    meter.shift_counter(by_wh)
    assert meter.register_wh == then


def test_an_exchanged_meter_is_another_one() -> None:
    meter = awake(HandClock(START))
    meter.command_relay(connect=False)
    meter.exchange(identity=78, start_wh=40)
    assert (meter.show_identity(), meter.register_wh, meter.contact_connected) == (78, 40, True)


def test_the_button_closes_only_what_is_permitted() -> None:
    meter = awake(HandClock(START))
    meter.permit_closing()
    assert not meter.permitted  # connected already
    meter.command_relay(connect=False)
    assert not meter.press_button()
    meter.permit_closing()
    assert meter.press_button()
    assert meter.contact_connected
    assert not meter.permitted


def test_loads_are_checked() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"trade": "casino", "seed": 1}, LoadConfig)
