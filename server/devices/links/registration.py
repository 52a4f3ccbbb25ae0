"""Who a DTU says it is: names told apart in the first bytes of a caller; whence it may call."""

import string
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol, TypeVar

from server.devices.errors import MisconfiguredError

TERMINATORS = b"\r\n\t \x00"
NAME_BYTES = frozenset((string.ascii_letters + string.digits + "_-").encode())


class Named(Protocol):
    """What names itself by a packet, and may send heartbeats before it."""

    registration: bytes
    heartbeat: bytes


N = TypeVar("N", bound=Named)


def identify(said: bytes, expected: Mapping[bytes, N]) -> tuple[N | None, bytes, bool]:
    """Whose name this is, what follows it, and whether it may yet become another name."""
    one = expected.get(said)
    if one is not None:
        return one, b"", True
    one = expected.get(said.rstrip(TERMINATORS))
    if one is not None:
        return one, b"", False
    best: tuple[N | None, bytes] = (None, b"")
    unfinished = False
    for one in expected.values():
        more = _after_name(one, said)
        unfinished = unfinished or _may_become_name(one, said)
        longer = best[0] is None or len(one.registration) > len(best[0].registration)
        if more is not None and longer:
            best = one, more
    return *best, unfinished


def _after_name(one: Named, said: bytes) -> bytes | None:
    """What follows this one's name; None when it is not its name. DTU12 is not DTU1."""
    for text in _readings(one, said):
        if not text.startswith(one.registration):
            continue
        more = text[len(one.registration) :]
        goes_on = more and one.registration[-1] in NAME_BYTES and more[0] in NAME_BYTES
        if not goes_on or (one.heartbeat and more.startswith(one.heartbeat)):
            return more.lstrip(TERMINATORS)
    return None


def _may_become_name(one: Named, said: bytes) -> bool:
    """Whether this is the beginning of this one's name, or all of it without an end."""
    return any(one.registration.startswith(text) for text in _readings(one, said))


def _readings(one: Named, said: bytes) -> Iterator[bytes]:
    """As it was said; without line ends before it; without heartbeats before it."""
    yield said
    text = said.lstrip(TERMINATORS)
    yield text
    if one.heartbeat:
        while text.startswith(one.heartbeat):
            text = text[len(one.heartbeat) :].lstrip(TERMINATORS)
        yield text


def may_dial_in(networks: Sequence[IPv4Network | IPv6Network], peer: str) -> bool:
    """Whether the caller's address is in one of the networks; none: anywhere."""
    if not networks:
        return True
    address = ip_address(peer)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def parse_networks(texts: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """CIDR networks; raises MisconfiguredError."""
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise MisconfiguredError(f"allow_from: {error}") from error
