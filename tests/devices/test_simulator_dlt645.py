"""DL/T 645-2007 as the simulated meters speak it, against recorded frames; no sockets."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.devices.simulator.clock import HandClock
from server.devices.simulator.config import MeterConfig
from server.devices.simulator.dlt645 import Dlt645Deframer, Dlt645Frame, Dlt645Speech, bcd
from server.devices.simulator.faults import Fault, FaultName
from server.devices.simulator.meter import Meter

NOON = datetime(2026, 6, 3, 4, 0, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")


def meter_at(address: str, **changes: object) -> Meter:
    fields: dict[str, object] = {
        "code": f"M-{address}",
        "profile": "standard/dlt645-2007-relay",
        "address": address,
        "loads": [{"trade": "restaurant", "seed": 4}],
    }
    return Meter(msgspec.convert(fields | changes, MeterConfig), ZONE, HandClock(NOON), None)


def converse(meter: Meter, request: bytes) -> bytes | None:
    """The meter's answer without wake-up bytes."""
    speech = Dlt645Speech({meter.config.address or "": meter})
    [frame] = speech.deframer().feed(request)
    if not speech.addressed(frame):
        return None
    reply = speech.execute(frame, meter)
    return None if reply is None else reply.encode().removeprefix(b"\xfe" * 4)


# Frames of real meters, published: energy and voltage of meter 000000000161
# (https://hwhale.com/article/138066), trip and status of meter 151230011061 (captures in a public
# Node.js collector), relay constants in a public STM32 controller and a public C++ SCADA driver.
READ_ENERGY = bytes.fromhex("fefefefe 68610100000000 68 1104 33333433 1416")
ENERGY_0_26 = bytes.fromhex("68610100000000 68 9108 33333433 59333333 8a16")
TRIP = bytes.fromhex("68611001301215681c10356a39353433 33334d33333333 6345cc2c16")
TRIPPED = bytes.fromhex("68611001301215 68 9c00 3516")
READ_STATUS = bytes.fromhex("68611001301215 68 1104 36383337 8616")
STATUS_OPEN = bytes.fromhex("68611001301215 68 9106 36383337 8333 be16")
TRIP_BY_DEFAULT = bytes.fromhex("68061024051920 68 1c10 35333333 33333333 4d333333 33333333 c016")
TRIP_BY_STM32 = bytes.fromhex("68989921000000 68 1c10 35333333 63636363 4d333333 33333333 5a16")


def test_answers_the_recorded_energy_request_as_recorded() -> None:
    meter = meter_at("000000000161", start_wh=260)
    assert converse(meter, READ_ENERGY) == ENERGY_0_26


def test_trips_and_reads_back_as_recorded() -> None:
    meter = meter_at("151230011061", password="02370602")
    assert converse(meter, TRIP) == TRIPPED
    assert not meter.contact_connected
    assert converse(meter, READ_STATUS) == STATUS_OPEN


@pytest.mark.parametrize(
    ("address", "request_frame"),
    [("201905241006", TRIP_BY_DEFAULT), ("000000219998", TRIP_BY_STM32)],
)
def test_obeys_the_published_commands(address: str, request_frame: bytes) -> None:
    meter = meter_at(address)
    converse(meter, request_frame)
    assert not meter.contact_connected


def test_an_order_for_another_meter_is_not_heard() -> None:
    meter = meter_at("000000000162")
    assert converse(meter, TRIP_BY_DEFAULT) is None
    assert meter.contact_connected


ADDRESS = "202605240001"


def ask(meter: Meter, control: int, data: str) -> Dlt645Frame:
    """Asks as another make of master would: built here, not by the codec under test."""
    raw = bytes.fromhex(data)
    body = bytes([0x68, *bytes.fromhex(ADDRESS)[::-1], 0x68, control, len(raw)])
    body += bytes((byte + 0x33) % 256 for byte in raw)
    answer = converse(meter, body + bytes([sum(body) % 256, 0x16]))
    assert answer is not None
    [frame] = Dlt645Deframer().feed(answer)
    return frame


def read(meter: Meter, di: str) -> bytes:
    raw = bytes.fromhex(di)[::-1].hex()
    frame = ask(meter, 0x11, raw)
    assert (frame.address, frame.control, frame.data[:4].hex()) == (ADDRESS, 0x91, raw)
    return frame.data[4:]


@pytest.mark.parametrize(
    ("di", "answer"),
    [
        ("00010000", "56341200"),
        ("00000000", "56341200"),
        ("04000503", "0000"),
        ("04000401", "010024052620"),
        ("02800002", "0050"),
    ],
)
def test_shows_its_data(di: str, answer: str) -> None:
    meter = meter_at(ADDRESS, start_wh=1_234_560)
    assert read(meter, di).hex() == answer


def test_shows_the_periods_behind_the_total() -> None:
    meter = meter_at(ADDRESS, start_wh=1_234_560)
    block = read(meter, "0001FF00")
    total, *periods = (int(block[i : i + 4][::-1].hex()) for i in range(0, 20, 4))
    assert (total, len(periods)) == (123_456, 4)
    assert 0 <= total - sum(periods) <= 4
    for di, period in zip(["00010100", "00010200", "00010300", "00010400"], periods, strict=True):
        assert read(meter, di) == bcd(period, 4)


def test_shows_the_moment() -> None:
    meter = meter_at(ADDRESS)
    assert int(read(meter, "02030000")[::-1].hex()) == meter.show_power_w() * 10
    assert int(read(meter, "02010100")[::-1].hex()) == meter.show_decivolts()
    assert int(read(meter, "02020100")[::-1].hex()) == meter.show_current_ma()
    assert read(meter, "0201FF00")[2:] == b"\xff" * 4  # phases that a single-phase meter lacks


@pytest.mark.parametrize("data", ["ffffff00", "0000", ""])
def test_says_what_it_has_not(data: str) -> None:
    frame = ask(meter_at(ADDRESS), 0x11, data)
    assert (frame.control, frame.data) == (0xD1, b"\x02")


FACTORY = "02000000"
OPERATOR, FOREVER = "00000000", "000000000000"
TRIP_CODE, PERMIT, CLOSE, PROTECT, UNPROTECT = "1a00", "1b00", "1c00", "3a00", "3b00"


def control(meter: Meter, code: str, password: str = FACTORY, until: str = FOREVER) -> int:
    """Sends a relay command; 0 for a plain answer, else the error word."""
    frame = ask(meter, 0x1C, password + OPERATOR + code + until)
    if frame.control == 0x9C:
        assert frame.data == b""
        return 0
    assert frame.control == 0xDC
    return frame.data[0]


@pytest.mark.parametrize(
    ("codes", "status", "flows"),
    [
        ([], "0000", True),
        ([TRIP_CODE], "5000", False),
        ([TRIP_CODE, CLOSE], "0000", True),
        ([TRIP_CODE, PERMIT], "1000", False),
        ([TRIP_CODE, PERMIT, TRIP_CODE], "5000", False),
        ([PROTECT, UNPROTECT, TRIP_CODE], "5000", False),
    ],
)
def test_the_relay_obeys_and_shows_it(codes: list[str], status: str, flows: bool) -> None:
    meter = meter_at(ADDRESS)
    assert [control(meter, code) for code in codes] == [0] * len(codes)
    assert (read(meter, "04000503").hex(), meter.contact_connected) == (status, flows)


@pytest.mark.parametrize(
    ("changes", "before", "order", "error"),
    [
        ({}, [], {"code": TRIP_CODE, "password": "02000001"}, 0x04),
        ({}, [], {"code": TRIP_CODE, "password": "03000000"}, 0x04),
        ({"password": "02123456"}, [], {"code": TRIP_CODE}, 0x04),
        ({}, [], {"code": "7700"}, 0x01),
        ({}, [PROTECT], {"code": TRIP_CODE}, 0x01),
        # noon in Shanghai on 3 June 2026: a second past, a day that is none
        ({}, [], {"code": TRIP_CODE, "until": "595911030626"}, 0x01),
        ({}, [], {"code": TRIP_CODE, "until": "000000300226"}, 0x01),
        (
            {"profile": "standard/dlt645-2007-relay-permit"},
            [TRIP_CODE],
            {"code": CLOSE},
            0x01,
        ),
    ],
)
def test_rejects_a_relay_command(
    changes: dict[str, object], before: list[str], order: dict[str, str], error: int
) -> None:
    meter = meter_at(ADDRESS, **changes)
    for code in before:
        control(meter, code)
    was = meter.contact_connected
    assert control(meter, **order) == error
    assert meter.contact_connected == was


def test_obeys_a_command_that_is_still_valid() -> None:
    meter = meter_at(ADDRESS)
    assert control(meter, TRIP_CODE, until="010012030626") == 0


def test_a_welded_relay_shows_that_it_is_commanded_open() -> None:
    meter = meter_at(ADDRESS)
    meter.add_fault(Fault(FaultName.WELDED))
    control(meter, TRIP_CODE)
    assert read(meter, "04000503").hex() == "4000"


@pytest.mark.parametrize(
    ("pattern", "hears"),
    [
        ("AAAAAAAAAAAA", True),
        ("AAAAAAAA0001", True),
        ("AAAAAAAA0002", False),
        ("999999999999", False),
        (ADDRESS, True),
    ],
)
def test_a_wildcard_stands_for_two_digits(pattern: str, hears: bool) -> None:
    meter = meter_at(ADDRESS)
    speech = Dlt645Speech({ADDRESS: meter})
    request = Dlt645Frame(pattern, 0x13, b"")
    assert list(speech.addressed(request)) == ([meter] if hears else [])
    answer = speech.execute(request, meter)
    assert answer == Dlt645Frame(ADDRESS, 0x93, bytes.fromhex(ADDRESS)[::-1])


FRAMES = st.builds(
    Dlt645Frame,
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.integers(0, 255),
    st.binary(max_size=60),
)


@given(st.lists(FRAMES, max_size=4), st.integers(1, 7))
def test_frames_come_out_whole_however_they_are_cut(frames: list[Dlt645Frame], cut: int) -> None:
    stream = b"".join(frame.encode() for frame in frames)
    deframer = Dlt645Deframer()
    heard = [f for i in range(0, len(stream), cut) for f in deframer.feed(stream[i : i + cut])]
    assert heard == frames


@pytest.mark.parametrize(
    "junk", [b"\x00\x55", b"\x68", b"\x68" * 9, READ_ENERGY[:-3], READ_ENERGY[:-2] + b"\x00\x16"]
)
def test_junk_before_a_frame_is_skipped(junk: bytes) -> None:
    [frame] = Dlt645Deframer().feed(junk + READ_ENERGY)
    assert frame == Dlt645Frame("000000000161", 0x11, bytes.fromhex("00000100"))
