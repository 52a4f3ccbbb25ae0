"""The control port of a bank: one JSON order a line, one JSON answer a line, loopback only."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from server.core.errors import InvalidInputError, NotFoundError
from server.devices.simulator.config import split_address
from server.devices.simulator.faults import Fault, FaultName
from server.devices.simulator.gateway import Gateway
from server.devices.simulator.listener import Listener
from server.devices.simulator.meter import ROLLOVER_WH, Meter

_LINKS_MAX = 16

Wh = Annotated[int, Meta(ge=0, lt=ROLLOVER_WH)]


class _Order(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    """What to do, and to whom."""


class ListMeters(_Order, frozen=True, tag="list"):
    """Every meter with its state."""


class ShowMeter(_Order, frozen=True, tag="show"):
    """One meter's state."""

    meter: str


class AddFault(_Order, frozen=True, tag="fault"):
    """Something goes wrong: for `count` answers, or until cleared."""

    meter: str
    name: FaultName
    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    delay_ms: Annotated[int, Meta(ge=1, le=600_000)] = 2_000
    code: Annotated[int, Meta(ge=1, le=255)] = 4


class ClearFaults(_Order, frozen=True, tag="clear"):
    """All well again."""

    meter: str


class ShiftCounter(_Order, frozen=True, tag="shift"):
    """The register jumps, or goes back."""

    meter: str
    by_wh: Annotated[int, Meta(gt=-ROLLOVER_WH, lt=ROLLOVER_WH)]


class SetRegister(_Order, frozen=True, tag="register"):
    """The register stands elsewhere."""

    meter: str
    wh: Wh


class ExchangeMeter(_Order, frozen=True, tag="exchange"):
    """Another meter hangs there now."""

    meter: str
    identity: Annotated[int, Meta(ge=0, lt=2**32)]
    start_wh: Wh = 0


class SetRelay(_Order, frozen=True, tag="relay"):
    """Somebody works the relay at the meter, behind the master's back."""

    meter: str
    connected: bool


class PressButton(_Order, frozen=True, tag="press"):
    """Somebody presses the button that a permission waits for."""

    meter: str


class DropLinks(_Order, frozen=True, tag="drop"):
    """A gateway loses its links."""

    gateway: str


class SetGateway(_Order, frozen=True, tag="gateway"):
    """A gateway goes down, or comes back."""

    gateway: str
    up: bool


MeterOrder = (
    ShowMeter
    | AddFault
    | ClearFaults
    | ShiftCounter
    | SetRegister
    | ExchangeMeter
    | SetRelay
    | PressButton
)
Order = ListMeters | MeterOrder | DropLinks | SetGateway


def describe(meter: Meter) -> dict[str, object]:
    """A meter's state as the control answers it."""
    return {
        "meter": meter.code,
        "register_wh": meter.register_wh,
        "drawn_w": meter.drawn_w(),
        "connected": meter.contact_connected,
        "shown_connected": meter.shown_connected,
        "permitted": meter.permitted,
        "identity": meter.show_identity(),
        "faults": [fault.name.value for fault in meter.faults],
    }


class ControlPort:
    """Takes orders for a bank."""

    def __init__(
        self, address: str, meters: Mapping[str, Meter], gateways: Mapping[str, Gateway]
    ) -> None:
        host, port = split_address(address)
        self._listener = Listener(host, port, self._serve, links_max=_LINKS_MAX)
        self._meters = meters
        self._gateways = gateways

    @property
    def port(self) -> int:
        """The bound port."""
        return self._listener.port

    async def start(self) -> None:
        """Listens; raises OSError."""
        await self._listener.start()

    async def stop(self) -> None:
        """Listens no more."""
        await self._listener.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # gone, or a line beyond the stream's limit

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            order = msgspec.json.decode(line, type=Order)
            return {"ok": True, **await self._obey(order)}
        except (
            msgspec.MsgspecError,
            UnicodeDecodeError,
            InvalidInputError,
            NotFoundError,
        ) as error:
            return {"ok": False, "error": str(error)}
        except OSError as error:
            return {"ok": False, "error": f"the machine refused: {error}"}

    async def _obey(self, order: Order) -> dict[str, Any]:
        match order:
            case ListMeters():
                return {"meters": [describe(meter) for meter in self._meters.values()]}
            case DropLinks(gateway):
                self._gateway(gateway).drop_links()
            case SetGateway(gateway, up):
                chosen = self._gateway(gateway)
                await (chosen.start() if up else chosen.stop())
            case _:
                meter = self._meter(order.meter)
                _work(meter, order)
                return describe(meter)
        return {}

    def _meter(self, code: str) -> Meter:
        if code not in self._meters:
            raise NotFoundError(f"no meter {code!r} here")
        return self._meters[code]

    def _gateway(self, code: str) -> Gateway:
        if code not in self._gateways:
            raise NotFoundError(f"no gateway {code!r} here")
        return self._gateways[code]


def _work(meter: Meter, order: MeterOrder) -> None:
    match order:
        case ShowMeter():
            pass
        case AddFault(_, name, count, delay_ms, code):
            meter.add_fault(Fault(name, count, delay_ms, code))
        case ClearFaults():
            meter.clear_faults()
        case ShiftCounter(_, by_wh):
            meter.shift_counter(by_wh)
        case SetRegister(_, wh):
            meter.set_register(wh)
        case ExchangeMeter(_, identity, start_wh):
            meter.exchange(identity=identity, start_wh=start_wh)
        case SetRelay(_, connected):
            meter.command_relay(connect=connected)
        case PressButton():
            if not meter.press_button():
                raise InvalidInputError("the button closes nothing: closing is not permitted")
