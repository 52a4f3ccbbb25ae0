"""Free ports, and one clear line where a wanted one is taken."""

import errno
import socket

from server.local.processes import LocalServerError

LOOPBACK = "127.0.0.1"


class PortBusyError(LocalServerError):
    """Another program listens there, or we may not."""

    code = "port_busy"


def _try_listen(host: str, port: int) -> int:
    """Listen for a moment; the port that it was."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
        return int(probe.getsockname()[1])


def free_port(host: str = LOOPBACK) -> int:
    """A port on which nobody listens now."""
    return _try_listen(host, 0)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether we could listen there now."""
    try:
        _try_listen(host, port)
    except OSError:
        return False
    return True


def require_free(host: str, port: int, setting: str) -> None:
    """Raise PortBusyError, naming the setting to change, unless we can listen there."""
    try:
        _try_listen(host, port)
    except OSError as error:
        why = {
            errno.EADDRINUSE: "is in use by another program",
            errno.EACCES: "is not for this account (below 1024 belongs to root)",
            errno.EADDRNOTAVAIL: "is not an address of this machine",
        }.get(error.errno or 0, f"cannot be used: {error.strerror}")
        raise PortBusyError(f"{host}:{port} {why}: choose another with {setting}") from error
