"""What every simulated protocol gives the bus: frames in, replies out, no sockets."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from server.devices.simulator.meter import Meter


class Reply(Protocol):
    """A meter's answer before it is put on the wire."""

    def encode(self) -> bytes:
        """The frame as it should be."""
        ...

    def encode_spoilt(self) -> bytes:
        """The frame as noise leaves it: it fails the receiver's check."""
        ...

    def from_neighbour(self) -> "Reply":
        """The same content in the name of another meter."""
        ...


class Request(Protocol):
    """One whole frame from the master."""

    @property
    def wire_bytes(self) -> int:
        """How long it was on the wire: paces the bus."""
        ...


R = TypeVar("R", bound=Request)
R_co = TypeVar("R_co", bound=Request, covariant=True)


class Deframer(Protocol[R_co]):
    """Bytes in, whole requests out; what is no request is skipped."""

    def feed(self, data: bytes) -> Sequence[R_co]:
        """The requests that these bytes complete."""
        ...

    def reset(self) -> None:
        """Forget half a frame: the line was silent."""
        ...


class Speech(Protocol[R]):
    """A protocol as a bus of meters speaks it."""

    def deframer(self) -> Deframer[R]:
        """A fresh one for a new connection."""
        ...

    def addressed(self, request: R) -> Sequence[Meter]:
        """The meters that feel meant."""
        ...

    def execute(self, request: R, meter: Meter) -> Reply | None:
        """Does what is asked; None: this protocol stays silent here."""
        ...

    def refuse(self, request: R, meter: Meter, code: int) -> Reply:
        """A refusal with the given code, nothing done."""
        ...


class LinkBrokenError(Exception):
    """The master sent what no server of this protocol can go on after: close the connection."""
