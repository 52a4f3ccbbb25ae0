"""`python -m server.devices.simulator CONFIG.json`: a process of simulated gateways and meters."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from server.core.errors import InvalidInputError
from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import BankConfig, read_config

USAGE = "usage: python -m server.devices.simulator CONFIG.json"


async def serve(config: BankConfig) -> int:
    """Serves until SIGTERM or SIGINT; 1 where a meter could not keep its state."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with MeterBank(config) as bank:
        ready = {"gateways": bank.ports, "control": bank.control_port, "meters": len(bank.meters)}
        print("ready", json.dumps(ready), flush=True)  # noqa: T201 - the promise to whoever starts us
        failing = loop.create_task(bank.failed())
        waiting = loop.create_task(stopping.wait())
        await asyncio.wait({failing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if failing.done():
            sys.stderr.write(f"simulator: a meter could not keep its state: {failing.result()}\n")
            return 1
        failing.cancel()
    return 0


def main(arguments: list[str]) -> int:
    """Reads the configuration, serves, and says in one line why it could not."""
    if len(arguments) != 1:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        return asyncio.run(serve(read_config(Path(arguments[0]).read_bytes())))
    except (OSError, InvalidInputError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
