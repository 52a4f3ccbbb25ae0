"""DTUs that dial in: many on one port, each named by its registration packet.

A DTU is a transparent modem, so who dials in proves nothing: the packet names the gateway,
`allow_from` says from where, and a second caller replaces the first only when that one is dead.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from server.devices.errors import LinkDownError, MisconfiguredError
from server.devices.links.link import Link
from server.devices.links.registration import identify, may_dial_in, parse_networks
from server.devices.links.tcp import tune_socket

log = logging.getLogger(__name__)

REGISTRATION_S = 15.0  # a modem may take its time to name itself
SETTLE_S = 0.2  # after a name without an end, wait whether it goes on
PROBE_S = 3.0
NAME_LIMIT = 256
UNREGISTERED_LIMIT = 1_024
UNKNOWN_LIMIT = 100
BACKLOG = 1_024


class RefusalReason(StrEnum):
    """Why a caller was turned away."""

    UNKNOWN = "unknown"  # no gateway has this registration
    ADDRESS = "address"  # the gateway may not dial in from there
    SILENT = "silent"  # it did not name itself in time
    TOO_MANY = "too_many"  # too many callers without a name
    OCCUPIED = "occupied"  # the gateway's present connection still answers


@dataclass(frozen=True, slots=True)
class UnknownDevice:
    """A caller that was turned away: from where, and the first bytes that it said."""

    peer: str
    packet: bytes
    reason: RefusalReason


class DtuLink(Link):
    """The connection of one DTU, while it has one."""

    redialable = False  # only the DTU can dial
    late_s = 10.0  # behind a mobile network an answer can be very late

    def __init__(
        self,
        name: str,
        listener: "DtuListener",
        registration: bytes,
        heartbeat: bytes | None,
        allow_from: Sequence[str],
    ) -> None:
        super().__init__()
        if not registration or len(registration) > NAME_LIMIT // 2:
            raise MisconfiguredError(f"{name}: a registration has 1 to {NAME_LIMIT // 2} bytes")
        self.name = name
        self.registration = registration
        self.heartbeat = heartbeat or b""
        self.prober: Callable[[float], Awaitable[None]] | None = None
        self.challenged = False
        self._listener = listener
        self._networks = parse_networks(allow_from)
        self._caller: _Caller | None = None
        self._sign_of_life = asyncio.Event()
        self._warned = False

    async def start(self) -> None:
        """Let the DTU dial in."""
        self._listener.expect(self)

    async def aclose(self) -> None:
        """Turn it away from now on, and hang up."""
        self._listener.forget(self)
        self.restart("closed")

    async def ready(self, *, urgent: bool = False) -> None:  # noqa: ARG002 - nobody can hurry a DTU
        """Up or not: there is nothing to wait for."""
        if not self.up:
            raise LinkDownError(f"{self.name}: the DTU has not dialled in")

    def write(self, data: bytes) -> None:
        """Send through the DTU."""
        if self._caller is None:
            raise LinkDownError(f"{self.name}: the DTU has not dialled in")
        self._caller.write(data)

    def restart(self, reason: str) -> None:
        """Hang up; a living DTU dials again."""
        caller, self._caller = self._caller, None
        if caller is None:
            return
        self.up = False
        self._sign_of_life.set()
        caller.hang_up()
        self.on_lost(reason)

    def admits(self, peer: str) -> bool:
        """Whether this gateway may dial in from there."""
        if not self._networks and not self._warned:
            log.warning("gateway %s has no allow_from: anybody may be it", self.name)
            self._warned = True
        return may_dial_in(self._networks, peer)

    def adopt(self, caller: "_Caller", more: bytes) -> None:
        """This caller is the DTU from now on."""
        self.restart("the DTU dialled again")
        self._caller = caller
        caller.link = self
        self.up = True
        self.connections += 1
        log.info("gateway %s dialled in from %s", self.name, caller.peer)
        if more:
            self.on_bytes(more)

    def heard(self, caller: "_Caller", data: bytes) -> None:
        """Bytes from a caller; a former one's are nobody's."""
        if caller is self._caller:
            self._sign_of_life.set()
            self.on_bytes(data)

    def lost(self, caller: "_Caller", reason: str) -> None:
        """A caller is gone."""
        if caller is self._caller:
            self.restart(reason)

    async def still_answers(self) -> bool:
        """Whether the present connection shows life within the probe's time."""
        if not self.up:
            return False
        caller = self._caller
        self._sign_of_life.clear()
        probe = asyncio.ensure_future(self.prober(PROBE_S)) if self.prober is not None else None
        try:
            async with asyncio.timeout(PROBE_S):
                await self._sign_of_life.wait()
        except TimeoutError:
            return False
        finally:
            if probe is not None:
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
        return self.up and caller is self._caller


class DtuListener:
    """One port for many DTUs. Whoever is not expected is refused, counted and remembered."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._expected: dict[bytes, DtuLink] = {}
        self._callers: set[_Caller] = set()
        self._challenges: set[asyncio.Task[None]] = set()
        self.unknown: deque[UnknownDevice] = deque(maxlen=UNKNOWN_LIMIT)
        self.refused: Counter[RefusalReason] = Counter()

    @property
    def port(self) -> int:
        """The port listened on, also where 0 let the system choose."""
        if self._server is None:
            return self._port
        return cast("int", self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Caller(self), self._host, self._port, backlog=BACKLOG
        )

    async def aclose(self) -> None:
        """Stop listening and hang up on everybody."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._challenges):
            task.cancel()
        await asyncio.gather(*self._challenges, return_exceptions=True)
        for link in list(self._expected.values()):
            link.restart("the listener was closed")
        for caller in list(self._callers):
            caller.hang_up()
        await server.wait_closed()

    def expect(self, link: DtuLink) -> None:
        """Let this gateway's DTU in."""
        known = self._expected.setdefault(link.registration, link)
        if known is not link:
            raise MisconfiguredError(f"{known.name} and {link.name} have one registration")

    def forget(self, link: DtuLink) -> None:
        """Turn this gateway's DTU away."""
        if self._expected.get(link.registration) is link:
            del self._expected[link.registration]

    def came(self, caller: "_Caller") -> bool:
        """Whether there is room for one more nameless caller."""
        if len(self._callers) >= UNREGISTERED_LIMIT:
            self.refuse(caller, RefusalReason.TOO_MANY, b"")
            return False
        self._callers.add(caller)
        return True

    def went(self, caller: "_Caller") -> None:
        """A nameless caller got its name, or is gone."""
        self._callers.discard(caller)

    def whose(self, said: bytes) -> tuple[DtuLink | None, bytes, bool]:
        """Whose name this is, what follows it, and whether it may yet become another name."""
        return identify(said, self._expected)

    def present(self, caller: "_Caller", link: DtuLink, more: bytes) -> None:
        """A caller has named itself: let it in, at once or when the present one proves dead."""
        if not link.admits(caller.peer):
            self.refuse(caller, RefusalReason.ADDRESS, link.registration)
        elif not link.up:
            self.went(caller)
            link.adopt(caller, more)
        elif link.challenged:
            self.refuse(caller, RefusalReason.OCCUPIED, link.registration)
        else:
            link.challenged = True
            task = asyncio.create_task(self._challenge(caller, link, more))
            self._challenges.add(task)
            task.add_done_callback(self._challenges.discard)

    async def _challenge(self, caller: "_Caller", link: DtuLink, more: bytes) -> None:
        try:
            alive = await link.still_answers()
        finally:
            link.challenged = False
        if alive:
            self.refuse(caller, RefusalReason.OCCUPIED, link.registration)
        elif not caller.gone and self._expected.get(link.registration) is link:
            self.went(caller)
            link.adopt(caller, more + caller.take_heard())

    def refuse(self, caller: "_Caller", reason: RefusalReason, packet: bytes) -> None:
        """Hang up on a caller and remember it."""
        self.refused[reason] += 1
        self.unknown.append(UnknownDevice(caller.peer, packet[:64], reason))
        log.warning("DTU from %s refused: %s, said %r", caller.peer, reason, packet[:64])
        self.went(caller)
        caller.hang_up()


class _Caller(asyncio.Protocol):
    """One connection: nameless first, then a link's."""

    def __init__(self, listener: DtuListener) -> None:
        self.link: DtuLink | None = None
        self.peer = ""
        self.gone = False
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._heard = b""
        self._named = False
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody dialled in."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = str(transport.get_extra_info("peername", ("", 0))[0])
        tune_socket(self._transport)
        if self._listener.came(self):
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(REGISTRATION_S, self._too_late))

    def data_received(self, data: bytes) -> None:
        """A name, or bytes for the link."""
        if self.link is not None:
            self.link.heard(self, data)
            return
        self._heard = (self._heard + data)[: NAME_LIMIT * 2]
        if not self._named:
            self._identify()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self.gone = True
        self._stop_timers(all_of_them=True)
        self._listener.went(self)
        if self.link is not None:
            self.link.lost(self, str(exc) if exc else "the DTU hung up")

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def hang_up(self) -> None:
        """Close at once."""
        self.gone = True
        self._stop_timers(all_of_them=True)
        if self._transport is not None:
            self._transport.abort()

    def take_heard(self) -> bytes:
        """What came while the caller waited to be let in."""
        heard, self._heard = self._heard, b""
        return heard

    def _identify(self) -> None:
        self._stop_timers(all_of_them=False)
        link, more, open_ended = self._listener.whose(self._heard)
        if open_ended and len(self._heard) < NAME_LIMIT:
            wait_s = SETTLE_S if link is not None else REGISTRATION_S
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(wait_s, self._settled))
        elif link is not None:
            self._present(link, more)
        else:
            self._listener.refuse(self, RefusalReason.UNKNOWN, self._heard)

    def _settled(self) -> None:
        link, more, _ = self._listener.whose(self._heard)
        if link is not None:
            self._present(link, more)
        else:
            self._listener.refuse(self, RefusalReason.UNKNOWN, self._heard)

    def _present(self, link: DtuLink, more: bytes) -> None:
        self._stop_timers(all_of_them=True)
        self._named = True
        self._heard = b""
        self._listener.present(self, link, more)

    def _too_late(self) -> None:
        self._listener.refuse(self, RefusalReason.SILENT, self._heard)

    def _stop_timers(self, *, all_of_them: bool) -> None:
        while len(self._timers) > (0 if all_of_them else 1):
            self._timers.pop().cancel()
