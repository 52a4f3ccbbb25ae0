import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.devices.errors import MisconfiguredError
from server.devices.protocols.exchange import Answered, Hearing, Refused, StrayReason
from server.devices.protocols.modbus import Framing, ModbusExchange, ModbusSpeaker
from server.devices.protocols.requests import RegisterRead, RegisterWrite, Request
from tests.devices.fakes import registers, rtu, tcp

READ = RegisterRead(3, 0, 2)
WRITE = RegisterWrite(5, 7, (1,))


def ask(request: Request, framing: Framing = Framing.RTU, unit: int = 1) -> ModbusExchange:
    speaker = ModbusSpeaker(framing, unit)
    assert isinstance(request, RegisterRead | RegisterWrite)
    return speaker.ask(request)


@pytest.mark.parametrize(
    ("request_", "pdu"),
    [
        (RegisterRead(1, 0, 1), "01 0000 0001"),
        (RegisterRead(2, 5, 9), "02 0005 0009"),
        (RegisterRead(3, 0xF010, 2), "03 F010 0002"),
        (RegisterRead(4, 0x0C, 125), "04 000C 007D"),
        (RegisterWrite(5, 0, (1,)), "05 0000 FF00"),
        (RegisterWrite(5, 0, (0,)), "05 0000 0000"),
        (RegisterWrite(6, 0x10, (0xABCD,)), "06 0010 ABCD"),
        (RegisterWrite(15, 2, (1, 0, 1)), "0F 0002 0003 01 05"),
        (RegisterWrite(16, 87, (1, 1)), "10 0057 0002 04 0001 0001"),
    ],
)
def test_requests_are_framed_as_the_specification_says(request_: Request, pdu: str) -> None:
    raw = bytes.fromhex(pdu)
    assert ask(request_, unit=17).frame == rtu(17, raw)
    assert ask(request_, Framing.TCP, unit=17).frame == tcp(1, 17, raw)


@pytest.mark.parametrize(
    ("request_", "answer", "data"),
    [
        (READ, registers(3, 0, 12345), struct.pack(">HH", 0, 12345)),
        (RegisterRead(1, 0, 1), b"\x01\x01\x01", b"\x01"),
        (RegisterRead(2, 0, 9), b"\x02\x02\xff\x01", b"\xff\x01"),
        (WRITE, bytes.fromhex("05 0007 FF00"), b""),
        (RegisterWrite(6, 1, (9,)), bytes.fromhex("06 0001 0009"), b""),
        (RegisterWrite(15, 2, (1, 0, 1)), bytes.fromhex("0F 0002 0003"), b""),
        (RegisterWrite(16, 87, (1, 1)), bytes.fromhex("10 0057 0002"), b""),
    ],
)
@pytest.mark.parametrize("framing", list(Framing))
def test_an_answer_that_belongs_is_found(
    request_: Request, answer: bytes, data: bytes, framing: Framing
) -> None:
    frame = rtu(1, answer) if framing is Framing.RTU else tcp(1, 1, answer)
    assert Hearing(ask(request_, framing)).feed(frame) == Answered(data)


@pytest.mark.parametrize(
    ("request_", "frame", "why"),
    [
        (READ, rtu(2, registers(3, 0, 1)), "another unit"),
        (READ, rtu(1, registers(4, 0, 1)), "another function"),
        (READ, rtu(1, registers(3, 0)), "too few registers"),
        (READ, rtu(1, registers(3, 0, 1, 2)), "too many registers"),
        (READ, rtu(1, b"\x84\x02"), "an exception to another function"),
        (READ, rtu(1, registers(3, 0, 1))[:-1] + b"\x00", "a wrong CRC"),
        (READ, rtu(1, registers(3, 0, 1))[:-1], "a byte is missing"),
        (WRITE, rtu(1, bytes.fromhex("05 0008 FF00")), "the echo of another coil"),
        (WRITE, rtu(1, bytes.fromhex("05 0007 0000")), "the echo of another value"),
        (RegisterWrite(16, 1, (1,)), rtu(1, bytes.fromhex("10 0001 0002")), "another count"),
    ],
)
def test_an_answer_that_does_not_belong_is_never_used(
    request_: Request, frame: bytes, why: str
) -> None:
    hearing = Hearing(ask(request_))
    assert hearing.feed(frame) is None, why
    assert hearing.rest() == frame


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (tcp(2, 1, registers(3, 0, 1)), "another transaction"),
        (tcp(0, 1, registers(3, 0, 1)), "no transaction"),
        (tcp(1, 2, registers(3, 0, 1)), "another unit"),
        (tcp(1, 1, registers(3, 0)), "another byte count"),
        (b"\x00\x01\x00\x01" + tcp(1, 1, registers(3, 0, 1))[4:], "another protocol"),
    ],
)
def test_on_tcp_the_transaction_must_match_too(frame: bytes, why: str) -> None:
    assert Hearing(ask(READ, Framing.TCP)).feed(frame) is None, why


@pytest.mark.parametrize(
    ("code", "permanent", "beyond"),
    [(1, True, False), (2, True, False), (6, False, False), (11, False, True)],
)
def test_an_exception_is_an_answer(code: int, permanent: bool, beyond: bool) -> None:
    answer = Hearing(ask(READ)).feed(rtu(1, bytes([0x83, code])))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.permanent, answer.beyond) == (code, permanent, beyond)


JUNK = [b"", b"\x00", b"\xff\xfe\x01\x03\xff", b"\x01\x03", b"\x01\x03\x04\x00"]


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("before", JUNK)
@pytest.mark.parametrize("after", JUNK)
def test_pieces_and_junk_change_nothing(framing: Framing, before: bytes, after: bytes) -> None:
    pdu = registers(3, 7, 8)
    frame = rtu(1, pdu) if framing is Framing.RTU else tcp(1, 1, pdu)
    heard = before + frame + after
    whole = Hearing(ask(READ, framing))
    whole.feed(heard)
    for cut in range(len(heard) + 1):
        halves = Hearing(ask(READ, framing))
        halves.feed(heard[:cut])
        halves.feed(heard[cut:])
        assert (halves.answer, halves.rest()) == (whole.answer, before + after)
    bytewise = Hearing(ask(READ, framing))
    for byte in heard:
        bytewise.feed(bytes([byte]))
    assert (bytewise.answer, bytewise.rest()) == (Answered(pdu[2:]), before + after)


def test_a_doubled_answer_is_used_once_and_known_as_trailed() -> None:
    frame = rtu(1, registers(3, 7, 8))
    hearing = Hearing(ask(READ))
    assert hearing.feed(frame + frame) == Answered(struct.pack(">HH", 7, 8))
    assert hearing.trailed
    assert hearing.rest() == frame


def test_a_heartbeat_inside_an_answer_is_taken_out() -> None:
    frame = rtu(1, registers(3, 7, 8))
    for cut in range(1, len(frame)):
        hearing = Hearing(ask(READ), chatter=(b"HB",))
        hearing.feed(frame[:cut] + b"HB" + frame[cut:])
        assert hearing.answer == Answered(struct.pack(">HH", 7, 8)), cut
        assert hearing.rest() == b""


def test_a_heartbeats_bytes_inside_the_data_stay() -> None:
    frame = rtu(1, registers(3, int.from_bytes(b"HB"), 8))
    hearing = Hearing(ask(READ), chatter=(b"HB",))
    assert hearing.feed(b"HB" + frame) == Answered(b"HB\x00\x08")


@pytest.mark.parametrize(
    ("heard", "reasons"),
    [
        (rtu(2, registers(3, 0, 1)), [StrayReason.OTHER]),
        (rtu(1, registers(3, 0, 1))[:-1] + b"\x00", [StrayReason.BROKEN]),
        (rtu(1, registers(3, 0, 1))[:5], [StrayReason.BROKEN]),
        (b"\xaa\xbb\xcc", [StrayReason.NOISE]),
        (b"\xaa" + rtu(2, b"\x83\x02"), [StrayReason.NOISE, StrayReason.OTHER]),
    ],
)
def test_what_is_dropped_has_a_reason(heard: bytes, reasons: list[StrayReason]) -> None:
    assert [stray.reason for stray in ask(READ).strays(heard)] == reasons


@pytest.mark.parametrize(("framing", "unit"), [("rtu", 0), ("rtu", 248), ("tcp", 0), ("tcp", 256)])
def test_nobody_is_asked_at_a_broadcast_address(framing: str, unit: int) -> None:
    with pytest.raises(MisconfiguredError):
        ModbusSpeaker(Framing(framing), unit)


@given(st.binary(max_size=600), st.sampled_from(list(Framing)))
def test_no_bytes_break_the_decoder(heard: bytes, framing: Framing) -> None:
    for request in (READ, WRITE, RegisterRead(1, 0, 9)):
        exchange = ask(request, framing)
        hearing = Hearing(exchange, chatter=(b"HB",))
        hearing.feed(heard)
        strays = exchange.strays(heard)
        assert b"".join(stray.data for stray in strays) == heard
