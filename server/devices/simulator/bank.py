"""A bank of simulated meters behind their gateways: in a test's process or in one of its own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError
from server.devices.simulator.bus import Bus, Pace
from server.devices.simulator.clock import Clock, SystemClock
from server.devices.simulator.config import (
    BankConfig,
    DtuGateway,
    GatewayConfig,
    RtuOverTcpGateway,
    check_config,
)
from server.devices.simulator.control import ControlPort
from server.devices.simulator.dlt645 import Dlt645Speech
from server.devices.simulator.gateway import DialingGateway, Gateway, ListeningGateway
from server.devices.simulator.layouts import LAYOUTS
from server.devices.simulator.memory import StateFolder
from server.devices.simulator.meter import Meter
from server.devices.simulator.modbus import ModbusSpeech

KEEP_EVERY_S = 3.0


class MeterBank:
    """`async with MeterBank(config) as bank`: listens on entry, keeps everything on exit."""

    def __init__(self, config: BankConfig, clock: Clock | None = None) -> None:
        check_config(config)
        self._config = config
        self._clock = clock or SystemClock()
        self._folder: StateFolder | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._control: ControlPort | None = None
        self._failure: asyncio.Future[OSError] | None = None
        self.meters: dict[str, Meter] = {}
        self.gateways: dict[str, Gateway] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def ports(self) -> dict[str, int]:
        """The bound ports of the gateways that listen."""
        bound = {code: gateway.port for code, gateway in self.gateways.items()}
        return {code: port for code, port in bound.items() if port is not None}

    @property
    def control_port(self) -> int | None:
        """The bound port of the control, where one is configured."""
        return None if self._control is None else self._control.port

    async def start(self) -> None:
        """Wakes the meters and brings up the gateways; raises OSError, InvalidInputError."""
        self._failure = asyncio.get_running_loop().create_future()
        try:
            self._wake_meters()
            for gateway in self.gateways.values():
                await gateway.start()
            if self._config.control is not None:
                self._control = ControlPort(self._config.control, self.meters, self.gateways)
                await self._control.start()
        except (OSError, InvalidInputError):
            await self.stop()
            raise
        self._keeper = asyncio.get_running_loop().create_task(self._keep_on())

    async def stop(self) -> None:
        """Cuts every link at once and keeps every counter."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._control is not None:
            await self._control.stop()
        for gateway in self.gateways.values():
            await gateway.stop()
        if self._folder is not None:
            for meter in self.meters.values():
                meter.keep_progress()
            self._folder.close()
            self._folder = None

    async def failed(self) -> OSError:
        """Waits until a meter could not keep its state, and says why."""
        if self._failure is None:
            raise InvalidInputError("a bank that never started cannot fail")
        return await asyncio.shield(self._failure)

    def _wake_meters(self) -> None:
        zone = ZoneInfo(self._config.timezone)
        if self._config.state is not None:
            self._folder = StateFolder(Path(self._config.state))
        for gateway in self._config.gateways:
            for config in gateway.meters:
                self.meters[config.code] = Meter(config, zone, self._clock, self._folder)
        for meter in self.meters.values():
            meter.feed(self.meters[code] for code in meter.config.feeds)
        self.gateways = {
            gateway.code: _build(gateway, self.meters, self._fail)
            for gateway in self._config.gateways
        }

    async def _keep_on(self) -> None:
        """Keeps what has been counted, read or not, every few seconds."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            try:
                for meter in self.meters.values():
                    meter.keep_progress()
            except OSError as error:
                self._fail(error)
                return

    def _fail(self, error: OSError) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)


def _build(
    config: GatewayConfig, meters: dict[str, Meter], on_failure: Callable[[OSError], None]
) -> Gateway:
    """A gateway with the bus that its protocol asks for."""
    pace = Pace(config.baud, config.serial_format, config.turnaround_ms)
    bus: Bus[Any]
    if isinstance(config, DtuGateway) and config.protocol == "dlt645":
        by_address = {meter.address: meters[meter.code] for meter in config.meters if meter.address}
        bus = Bus(Dlt645Speech(by_address), pace, on_failure)
    else:
        by_unit = {
            meter.unit: (meters[meter.code], LAYOUTS[meter.profile])
            for meter in config.meters
            if meter.unit is not None
        }
        rtu = isinstance(config, RtuOverTcpGateway | DtuGateway)
        bus = Bus(ModbusSpeech(by_unit, rtu=rtu), pace, on_failure)
    if isinstance(config, DtuGateway):
        return DialingGateway(config, bus)
    return ListeningGateway(config, bus)
