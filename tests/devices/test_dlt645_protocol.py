import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.devices.errors import MisconfiguredError
from server.devices.protocols.dlt645 import (
    Dlt645Exchange,
    Dlt645Speaker,
    Frame,
    build_frame,
    find_frames,
    full_address,
)
from server.devices.protocols.exchange import Answered, Hearing, Refused, StrayReason
from server.devices.protocols.requests import DataRead, RelayCommand
from tests.devices.fakes import dlt645

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "dlt645_frames.json").read_text("utf-8")
)["vectors"]
ADDRESS = "000000000161"
ENERGY = DataRead(bytes.fromhex("00010000"), 4)
DI = bytes.fromhex("00000100")  # as it travels


def speaker() -> Dlt645Speaker:
    return Dlt645Speaker(ADDRESS, bytes.fromhex("02000000"), bytes(4))


def frames_of(text: str) -> list[Frame]:
    return [frame for _, _, frame in find_frames(bytes.fromhex(text))]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_frames_are_read_and_rebuilt(vector: dict[str, Any]) -> None:
    for side in ("request", "response"):
        if side not in vector:
            continue
        parsed = vector[f"{side}_parsed"]
        expected = Frame(parsed["address"], parsed["control"], bytes.fromhex(parsed["data"]))
        assert frames_of(vector[side]) == [expected]
        assert build_frame(expected) == bytes.fromhex(vector[side]).lstrip(b"\xfe")


@pytest.mark.parametrize(("name", "command"), [("relay_trip", 0x1A), ("relay_close_permit", 0x1B)])
def test_relay_commands_are_those_that_a_real_meter_obeyed(name: str, command: int) -> None:
    (vector,) = (vector for vector in VECTORS if vector["name"] == name)
    level_and_password, operator = bytes.fromhex("02370602"), bytes.fromhex("01000000")
    meter = Dlt645Speaker("151230011061", level_and_password, operator)
    exchange = meter.ask(RelayCommand(command))
    assert exchange.frame == b"\xfe" * 4 + bytes.fromhex(vector["request"])
    assert Hearing(exchange).feed(bytes.fromhex(vector["response"])) == Answered(b"")


def test_a_recorded_reading_answers_its_request() -> None:
    (vector,) = (vector for vector in VECTORS if vector["name"] == "energy_total_fwd")
    exchange = speaker().ask(ENERGY)
    assert exchange.frame == bytes.fromhex(vector["request"])
    assert Hearing(exchange).feed(bytes.fromhex(vector["response"])) == Answered(b"\x26\0\0\0")


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (dlt645("000000000162", 0x91, DI + bytes(4)), "another meter"),
        (dlt645(ADDRESS, 0x91, bytes.fromhex("00000200") + bytes(4)), "another identifier"),
        (dlt645(ADDRESS, 0x91, DI + bytes(3)), "too short"),
        (dlt645(ADDRESS, 0x91, DI + bytes(5)), "too long"),
        (dlt645(ADDRESS, 0x11, DI), "our own request, echoed"),
        (dlt645(ADDRESS, 0x9C, b""), "the answer to a control"),
        (dlt645(ADDRESS, 0xD1, b""), "an error that names none"),
        (dlt645(ADDRESS, 0x91, DI + bytes(4))[:-2] + b"\x00\x16", "a wrong checksum"),
        (dlt645(ADDRESS, 0x91, DI + bytes(4))[:-1] + b"\x17", "a wrong end"),
    ],
)
def test_an_answer_that_does_not_belong_is_never_used(frame: bytes, why: str) -> None:
    hearing = Hearing(speaker().ask(ENERGY))
    assert hearing.feed(frame) is None, why


@pytest.mark.parametrize(
    ("error", "meaning", "permanent"),
    [
        (0x01, "other error", False),
        (0x02, "no such data", True),
        (0x04, "wrong password or no permission", False),
        (0x06, "no such data, wrong password or no permission", True),
        (0x00, "unnamed error", False),
    ],
)
def test_an_error_answer_says_why(error: int, meaning: str, permanent: bool) -> None:
    answer = Hearing(speaker().ask(ENERGY)).feed(dlt645(ADDRESS, 0xD1, bytes([error])))
    assert answer == Refused(error, meaning, permanent)


def test_a_refused_command_is_an_answer() -> None:
    answer = Hearing(speaker().ask(RelayCommand(0x1A))).feed(dlt645(ADDRESS, 0xDC, b"\x04"))
    assert answer == Refused(4, "wrong password or no permission", permanent=False)


def test_a_block_may_be_longer_than_what_is_wanted_of_it() -> None:
    exchange = speaker().ask(DataRead(bytes.fromhex("0001FF00"), 8, exact=False))
    data = bytes(range(20))
    frame = dlt645(ADDRESS, 0x91, bytes.fromhex("00FF0100") + data)
    assert Hearing(exchange).feed(frame) == Answered(data)


JUNK = [b"", b"\xfe\xfe", b"\x68", b"\x68\x61\x01\x00\x00\x00\x00\x68\x91\x08", b"\x16\x00\xaa"]


@pytest.mark.parametrize("before", JUNK)
@pytest.mark.parametrize("after", JUNK)
def test_pieces_and_junk_change_nothing(before: bytes, after: bytes) -> None:
    frame = dlt645(ADDRESS, 0x91, DI + b"\x68\x16\x00\x00")
    heard = before + frame + frame + after
    for cut in range(len(heard) + 1):
        hearing = Hearing(speaker().ask(ENERGY))
        hearing.feed(heard[:cut])
        hearing.feed(heard[cut:])
        assert hearing.answer == Answered(b"\x68\x16\x00\x00")
        assert hearing.rest() == before + frame + after
    bytewise = Hearing(speaker().ask(ENERGY))
    for byte in heard:
        bytewise.feed(bytes([byte]))
    assert (bytewise.answer, bytewise.rest()) == (hearing.answer, before + frame + after)


@pytest.mark.parametrize(
    ("heard", "reasons"),
    [
        (dlt645("000000000162", 0x91, DI), [StrayReason.OTHER]),
        (dlt645(ADDRESS, 0x91, DI)[:-3], [StrayReason.BROKEN]),
        (b"\xfe\xfe" + dlt645(ADDRESS, 0x91, DI), [StrayReason.OTHER]),
        (b"\x01\x02", [StrayReason.NOISE]),
    ],
)
def test_what_is_dropped_has_a_reason(heard: bytes, reasons: list[StrayReason]) -> None:
    assert [stray.reason for stray in speaker().ask(ENERGY).strays(heard)] == reasons


@pytest.mark.parametrize(
    "address", ["AAAAAAAAAAAA", "999999999999", "1234567890123", "12 4", "", "１２３"]
)
def test_nobody_is_asked_at_a_wildcard_or_broadcast_address(address: str) -> None:
    with pytest.raises(MisconfiguredError):
        full_address(address)


def test_a_printed_address_gets_its_zeros() -> None:
    assert full_address("161") == ADDRESS


@given(st.binary(max_size=400))
def test_no_bytes_break_the_decoder(heard: bytes) -> None:
    exchange = speaker().ask(ENERGY)
    Hearing(exchange).feed(heard)
    assert sum(len(stray.data) for stray in exchange.strays(heard)) <= len(heard)


@given(st.integers(0, 10**12 - 2), st.integers(0, 255), st.binary(max_size=200))
def test_a_built_frame_is_found_again(address: int, control: int, data: bytes) -> None:
    frame = Frame(f"{address:012d}", control, data)
    raw = build_frame(frame)
    assert (0, len(raw), frame) in list(find_frames(raw))


def test_the_exchange_is_frozen() -> None:
    exchange = speaker().ask(ENERGY)
    assert isinstance(exchange, Dlt645Exchange)
    with pytest.raises(AttributeError):
        exchange.address = "0"  # type: ignore[misc]  # that it cannot be is the test
