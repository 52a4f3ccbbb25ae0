"""Dialling out over TCP, to a Modbus TCP server or a transparent gateway."""

import asyncio
import socket
import sys
from typing import cast

from server.devices.errors import MisconfiguredError
from server.devices.links.link import RedialingLink

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_TRIES = 20, 5, 3
UNSENT_TIMEOUT_MS = 20_000
MODBUS_PORT = 502


class TcpLink(RedialingLink):
    """One TCP connection that is dialled again when lost."""

    late_s = 0.5  # dialling again leaves late answers behind; a transparent gateway may still talk

    def __init__(self, name: str, host: str, port: int) -> None:
        super().__init__(name)
        self._host = host
        self._port = port

    async def open(self) -> "TcpChannel":
        """Dial; the name is resolved off the loop."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: TcpChannel(self), self._host, self._port)
        return channel


class TcpChannel(asyncio.Protocol):
    """A connection that passes its bytes on."""

    def __init__(self, link: TcpLink) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None
        self.ended: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Dialled."""
        self._transport = cast("asyncio.Transport", transport)
        tune_socket(self._transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._link.heard(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer closed, or the network did."""
        self.ended = str(exc) if exc else "closed by the gateway"
        self._link.lost(self, self.ended)

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close without waiting for what was not sent."""
        if self._transport is not None:
            self._transport.abort()


def tune_socket(transport: asyncio.Transport) -> None:
    """Send small frames at once, and notice a peer that has silently gone."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_TIMEOUT_MS)
    if sys.platform in {"linux", "darwin"}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_TRIES)


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of host:port or [v6]:port; the host alone where there is a default port."""
    host, colon, port = text.rpartition(":")
    if not colon or (host.count(":") and not host.startswith("[")):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not port and default_port is not None:
        return host, default_port
    if not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 0xFFFF:
        raise MisconfiguredError(f"an address is host:port, not {text!r}")
    return host, int(port)
