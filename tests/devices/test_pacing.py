import pytest

from server.devices.errors import MisconfiguredError
from server.devices.pacing import Pace
from server.devices.patience import (
    FIRST_TIMEOUT_S,
    LONGEST_REST_S,
    LONGEST_TIMEOUT_S,
    SHORTEST_TIMEOUT_S,
    Patience,
)
from server.devices.targets import GatewayConfig, pace_for


@pytest.mark.parametrize(
    ("baud", "bits", "turnaround_ms", "request_size", "answer_size", "cycle_ms"),
    [
        (9600, 10, 20, 8, 25, 61.7),  # ten registers: the figure of the field notes
        (9600, 10, 20, 8, 105, 145.0),  # fifty
        (9600, 10, 100, 8, 25, 141.7),
        (115200, 10, 20, 8, 25, 26.4),  # above 19200 the silence is 1.75 ms
    ],
)
def test_a_cycle_is_what_the_wire_needs(
    baud: int, bits: int, turnaround_ms: int, request_size: int, answer_size: int, cycle_ms: float
) -> None:
    pace = Pace.of(baud, bits, turnaround_ms)
    assert pace.cycle_s(request_size, answer_size) * 1_000 == pytest.approx(cycle_ms, abs=0.05)


@pytest.mark.parametrize(
    ("link", "baud", "serial_format", "character_bits"),
    [
        ("modbus-tcp", 9600, "8N1", 10),
        ("rtu-over-tcp", 2400, "8E1", 11),
        ("serial", None, "8O2", 12),
    ],
)
def test_a_bus_is_paced_by_its_baud_rate(
    link: str, baud: int | None, serial_format: str, character_bits: int
) -> None:
    config = GatewayConfig("g", link, baud=baud, serial_format=serial_format)
    assert pace_for(config).character_s == character_bits / (baud or 9600)


def test_modbus_tcp_without_a_baud_rate_is_not_paced() -> None:
    assert pace_for(GatewayConfig("g", "modbus-tcp")).cycle_s(100, 100) == 0


@pytest.mark.parametrize(
    "config",
    [
        GatewayConfig("g", "serial", baud=100),
        GatewayConfig("g", "serial", serial_format="9X3"),
        GatewayConfig("g", "serial", turnaround_ms=-1),
    ],
)
def test_a_senseless_pace_is_refused(config: GatewayConfig) -> None:
    with pytest.raises(MisconfiguredError):
        pace_for(config)


def test_an_answering_meters_time_is_learned() -> None:
    patience = Patience()
    assert patience.timeout_s == FIRST_TIMEOUT_S
    for _ in range(50):
        patience.answered(0.6)
    assert SHORTEST_TIMEOUT_S <= patience.timeout_s < FIRST_TIMEOUT_S
    for _ in range(50):
        patience.answered(0.01)
    assert patience.timeout_s == SHORTEST_TIMEOUT_S


def test_a_mute_meter_rests_ever_longer_and_one_answer_ends_it() -> None:
    patience, rests = Patience(), list[float]()
    for _ in range(8):
        patience.missed(now_s=100.0)
        rests.append(patience.rest_s(100.0))
    assert rests == [2, 4, 8, 16, 32, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S]
    assert patience.rest_s(200.0) == 0
    patience.answered(0.1)
    assert patience.rest_s(100.0) == 0


def test_a_slow_meter_is_waited_for_longer_before_it_counts_as_mute() -> None:
    patience, timeouts = Patience(), list[float]()
    for _ in range(9):
        timeouts.append(patience.timeout_s)
        patience.missed(0)
    assert timeouts[:3] == [2, 4, LONGEST_TIMEOUT_S]
    assert LONGEST_TIMEOUT_S in timeouts[4:]  # now and then long again, else it is never found
    assert min(timeouts[3:]) < FIRST_TIMEOUT_S


def test_silence_while_the_gateway_was_away_says_nothing() -> None:
    patience = Patience()
    for _ in range(5):
        patience.missed(now_s=100.0)
    patience.forgive()
    assert patience.rest_s(100.0) == 0
