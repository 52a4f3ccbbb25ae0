"""One bus of meters behind a gateway: one conversation at a time, at the pace of the wire."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from server.devices.simulator.faults import Delivery, FaultName, Piece, deliver
from server.devices.simulator.meter import Meter
from server.devices.simulator.speech import LinkBrokenError, R, Speech

_CHUNK_BYTES = 4096
_SILENCE_S = 0.5
_SEND_TIMEOUT_S = 5.0
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a serial line needs; without a baud rate nothing waits."""

    baud: int | None
    serial_format: str = "8N1"
    turnaround_ms: int = 0

    def seconds(self, wire_bytes: int) -> float:
        """The time of request and answer together, with the meter's pause between them."""
        if self.baud is None:
            return 0.0
        bits = 1 + 8 + (self.serial_format[1] != "N") + int(self.serial_format[2])
        return wire_bytes * bits / self.baud + self.turnaround_ms / 1000


class Bus(Generic[R]):
    """Answers requests from any number of links; a second request waits for its turn."""

    def __init__(
        self, speech: Speech[R], pace: Pace, on_failure: Callable[[OSError], None]
    ) -> None:
        self._speech = speech
        self._pace = pace
        self._on_failure = on_failure
        self._turn = asyncio.Lock()
        self._late: set[asyncio.TimerHandle] = set()
        self.request_count = 0
        self.requests: deque[R] = deque(maxlen=_REMEMBERED)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one link until it ends; the caller closes it."""
        loop = asyncio.get_running_loop()
        deframer = self._speech.deframer()
        heard_at = loop.time()
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if loop.time() - heard_at > _SILENCE_S:
                    deframer.reset()
                heard_at = loop.time()
                for request in deframer.feed(data):
                    self.request_count += 1
                    self.requests.append(request)
                    async with self._turn:
                        await self._serve(request, writer)
        except (ConnectionError, LinkBrokenError, TimeoutError):
            return  # the master went away, or speaks another protocol: this link is over

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Bytes of the gateway itself, never inside an answer."""
        async with self._turn:
            await self._write(writer, data)

    def close(self) -> None:
        """Drops answers that are still to come."""
        for handle in self._late:
            handle.cancel()
        self._late.clear()

    async def _serve(self, request: R, writer: asyncio.StreamWriter) -> None:
        meters = self._speech.addressed(request)
        try:
            answers = [delivery for meter in meters if (delivery := self._ask(request, meter))]
        except OSError as error:  # a meter could not keep what it was about to show
            self._on_failure(error)
            raise LinkBrokenError("no memory") from error
        if len(answers) > 1:
            await self._deliver(_collide(answers), request, writer)
        elif answers:
            await self._deliver(answers[0], request, writer)

    def _ask(self, request: R, meter: Meter) -> Delivery | None:
        """One meter's answer as it leaves the meter, or None where it stays silent."""
        meter.advance()
        faults = meter.take_wire_faults()
        if FaultName.MUTE in faults:
            return None
        if FaultName.DROPPED_LINK in faults:
            raise LinkBrokenError("as ordered")
        if FaultName.EXCEPTION in faults:
            code = faults[FaultName.EXCEPTION].code
            reply = self._speech.refuse(request, meter, code)
        else:
            done = self._speech.execute(request, meter)
            if done is None or FaultName.ANSWER_LOST in faults:
                return None
            reply = done
        if FaultName.WRONG_UNIT in faults:
            reply = reply.from_neighbour()
        spoilt = FaultName.BAD_CHECKSUM in faults
        return deliver(reply.encode_spoilt() if spoilt else reply.encode(), faults)

    async def _deliver(self, delivery: Delivery, request: R, writer: asyncio.StreamWriter) -> None:
        answer_bytes = sum(len(piece.data) for piece in delivery.pieces)
        await asyncio.sleep(self._pace.seconds(request.wire_bytes + answer_bytes))
        if delivery.late_ms:
            self._send_late(delivery, writer)
            return
        for piece in delivery.pieces:
            if piece.after_ms:
                await asyncio.sleep(piece.after_ms / 1000)
            await self._write(writer, piece.data)

    def _send_late(self, delivery: Delivery, writer: asyncio.StreamWriter) -> None:
        """Leaves the bus free meanwhile: the answer may meet another request's."""
        data = b"".join(piece.data for piece in delivery.pieces)

        def send() -> None:
            self._late.discard(handle)
            if not writer.is_closing():
                writer.write(data)

        loop = asyncio.get_running_loop()
        handle = loop.call_later(delivery.late_ms / 1000, send)
        self._late.add(handle)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await writer.drain()


def _collide(answers: Sequence[Delivery]) -> Delivery:
    """Two meters talk at once: a zero bit of either wins on the wire."""
    frames = [b"".join(piece.data for piece in answer.pieces) for answer in answers]
    mixed = frames[0]
    for frame in frames[1:]:
        mixed = bytes(a & b for a, b in zip(mixed, frame, strict=False))
    return Delivery((Piece(0, mixed),))
