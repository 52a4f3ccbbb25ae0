"""Bringing an owned gateway in line with its description: open, reopen, refresh its meters."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import structlog

from server.devices.errors import DeviceError
from server.devices.gateway import GatewayConfig, open_bus
from server.devices.links.dtu import DtuListener
from server.devices.profiles import Profile
from server.models.database import pool
from server.services.gateways import GatewayRow, MeterRow
from server.services.meter_controls import set_permit_only
from server.workers.collector.configuration import (
    ConfigurationError,
    gateway_config,
    meter_target,
    warnings_of,
)
from server.workers.collector.gateway import OwnedGateway, OwnedMeter
from server.workers.collector.keeping import Keeper
from server.workers.collector.polling import Poller, poll_soon

log = structlog.get_logger(__name__)


class Opener:
    """Knows how a gateway and its meters are spoken to, and starts their polls."""

    def __init__(
        self,
        catalogue: Mapping[str, Profile],
        listener: DtuListener | None,
        keeper: Keeper,
        poller: Poller,
    ) -> None:
        self._catalogue = catalogue
        self._listener = listener
        self._keeper = keeper
        self._poller = poller

    async def describe(self, gateway: OwnedGateway, row: GatewayRow) -> None:
        """Make a gateway what its row says; a fault becomes a finding of every meter of it."""
        gateway.row = row
        await self._describe_meters(gateway, row)
        try:
            config = await gateway_config(row)
            if config != gateway.config or gateway.bus is None:
                await self._open(gateway, config)
            gateway.fault = None
        except (ConfigurationError, DeviceError) as error:
            await self._close(gateway)
            fault = f"{error.code}: {error.detail}"
            if fault != gateway.fault:
                log.warning("a gateway cannot be opened", gateway=row.code, fault=fault)
            gateway.fault = fault
            for meter in gateway.meters.values():
                self._keeper.find(gateway, meter, error.code, error.detail)

    async def _open(self, gateway: OwnedGateway, config: GatewayConfig) -> None:
        await self._close(gateway)
        if gateway.row is not None:
            for warning in warnings_of(gateway.row, self._catalogue):
                log.warning("gateway", gateway=config.code, warning=warning)
        bus = open_bus(config, dtu_listener=self._listener)
        await bus.start()
        if gateway.lost:
            await bus.aclose()
            return
        gateway.bus, gateway.config, gateway.was_connected = bus, config, False
        gateway.start_meters_afresh()
        poll_soon(gateway)
        gateway.spawn("polls", partial(self._poller.poll, gateway))

    @staticmethod
    async def _close(gateway: OwnedGateway) -> None:
        gateway.config = None
        await gateway.silence()()

    async def _describe_meters(self, gateway: OwnedGateway, row: GatewayRow) -> None:
        now_s = asyncio.get_running_loop().time()
        known = {one.meter_id for one in row.meters}
        for gone in gateway.meters.keys() - known:
            del gateway.meters[gone]
        for one in row.meters:
            meter = gateway.meters.get(one.meter_id)
            if meter is None:
                meter = gateway.meters[one.meter_id] = OwnedMeter(one, None, due_s=now_s)
            self._describe_meter(gateway, meter, one)
        relays = {
            meter.meter_id: meter.target.profile.supply.permits_only
            for meter in gateway.meters.values()
            if meter.target is not None and meter.target.profile.supply is not None
        }
        await set_permit_only(pool(), relays)
        gateway.wake.set()

    def _describe_meter(self, gateway: OwnedGateway, meter: OwnedMeter, row: MeterRow) -> None:
        changed = replace(row, identity=None) != replace(meter.row, identity=None)
        meter.row = row
        try:
            meter.target, meter.fault = meter_target(row, self._catalogue), None
        except ConfigurationError as error:
            meter.target, meter.fault = None, f"{error.code}: {error.detail}"
            self._keeper.find(gateway, meter, error.code, error.detail)
        if changed:
            meter.retry.reset()
            meter.due_s = min(meter.due_s, asyncio.get_running_loop().time())
