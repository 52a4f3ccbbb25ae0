"""`python -m payments.sandbox`: the sandbox platforms as a process of their own."""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from payments.sandbox.app import (
    SandboxConfig,
    SandboxRefusedError,
    bind_loopback,
    public_url,
    serving,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 1 and one line where that cannot be."""
    parser = argparse.ArgumentParser(prog="mallwatt sandbox", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8100", help="host:port, loopback only")
    parser.add_argument("--data", type=Path, default=Path(".data/sandbox"))
    parser.add_argument("--keys", type=Path, help="folder of the keys (default: in --data)")
    given = parser.parse_args(arguments)
    host, _, port = given.listen.rpartition(":")
    try:
        place = bind_loopback(host.strip("[]"), port)
        config = SandboxConfig(public_url(place), given.data, given.keys)
        with place:
            asyncio.run(_serve(config, place))
    except (SandboxRefusedError, OSError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 1
    return 0


async def _serve(config: SandboxConfig, place: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(config, place):
        sys.stdout.write(f"sandbox ready: {config.public_url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
