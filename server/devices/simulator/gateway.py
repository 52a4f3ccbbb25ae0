"""Gateways as a master sees them: a listener that it dials, or a DTU that dials in."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from server.devices.simulator.bus import Bus
from server.devices.simulator.config import (
    DtuGateway,
    ModbusTcpGateway,
    RtuOverTcpGateway,
    packet_bytes,
    split_address,
)
from server.devices.simulator.listener import Listener
from server.devices.simulator.speech import Request

_LINKS_MAX = 64
_DIAL_TIMEOUT_S = 5.0
_REDIAL_FIRST_S = 0.2
_SETTLED_S = 10.0


class Gateway(ABC):
    """A bus and the links to it; a gateway does not care which protocol its bus speaks."""

    def __init__(self, code: str, bus: Bus[Any]) -> None:
        self.code = code
        self._bus = bus

    @property
    def port(self) -> int | None:
        """The bound port of a listener; None for who dials out."""
        return None

    @property
    @abstractmethod
    def link_count(self) -> int:
        """How many links are open now."""

    @property
    def request_count(self) -> int:
        """How many whole requests have come."""
        return self._bus.request_count

    @property
    def requests(self) -> Sequence[Request]:
        """The last of them."""
        return tuple(self._bus.requests)

    @abstractmethod
    def drop_links(self) -> None:
        """Cuts the links; masters may dial again, a DTU redials."""

    @abstractmethod
    async def start(self) -> None:
        """Comes up, or back up on the same port; raises OSError where the port is taken."""

    @abstractmethod
    async def stop(self) -> None:
        """Cuts the links at once and takes no new ones."""


class ListeningGateway(Gateway):
    """Modbus TCP, or RTU frames passed through: masters dial in."""

    def __init__(self, config: ModbusTcpGateway | RtuOverTcpGateway, bus: Bus[Any]) -> None:
        super().__init__(config.code, bus)
        host, port = split_address(config.listen)
        self._listener = Listener(host, port, bus.converse, links_max=_LINKS_MAX)

    @property
    def port(self) -> int:
        """The bound port."""
        return self._listener.port

    @property
    def link_count(self) -> int:
        """How many masters are connected."""
        return self._listener.link_count

    def drop_links(self) -> None:
        """Cuts the masters' links."""
        self._listener.drop_links()

    async def start(self) -> None:
        """Listens."""
        await self._listener.start()

    async def stop(self) -> None:
        """Listens no more."""
        await self._listener.stop()
        self._bus.close()


class DialingGateway(Gateway):
    """A DTU: dials its master, names itself, sends heartbeats, and dials again after a loss."""

    def __init__(self, config: DtuGateway, bus: Bus[Any]) -> None:
        super().__init__(config.code, bus)
        self._config = config
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.dial_count = 0

    @property
    def link_count(self) -> int:
        """1 while its master is connected."""
        return 0 if self._writer is None else 1

    def drop_links(self) -> None:
        """Cuts the link to its master."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def start(self) -> None:
        """Begins to dial; whether somebody answers is another matter."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._dial_on())

    async def stop(self) -> None:
        """Hangs up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._bus.close()

    async def _dial_on(self) -> None:
        """Dials for ever; the pauses double up to the configured longest."""
        loop = asyncio.get_running_loop()
        pause_s = _REDIAL_FIRST_S
        while True:
            began_at = loop.time()
            await self._dial_once()
            if loop.time() - began_at > _SETTLED_S:
                pause_s = _REDIAL_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._config.redial_seconds)

    async def _dial_once(self) -> None:
        host, port = split_address(self._config.dial)
        self.dial_count += 1
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            return  # nobody there: the caller dials again
        self._writer = writer
        writer.write(packet_bytes(self._config.registration))
        beating = asyncio.get_running_loop().create_task(self._beat(writer))
        try:
            await self._bus.converse(reader, writer)
        finally:
            self._writer = None
            writer.transport.abort()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        """Heartbeats until the link ends; where one can't be sent the link is cut."""
        packet = packet_bytes(self._config.heartbeat)
        while packet:
            await asyncio.sleep(self._config.heartbeat_seconds)
            try:
                await self._bus.send(writer, packet)
            except (ConnectionError, TimeoutError):
                writer.transport.abort()
                return
