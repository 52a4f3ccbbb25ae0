"""How fast postings get into the journal, against pgbench with the same statement."""

import asyncio
import math
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.database import new_database
from bench.mall import OPENED, make_mall
from bench.measure import Result
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment
from server.local.postgres_programs import find_programs
from server.models.database import close_database, open_database, pool, rows, transaction
from server.services.journal import POST_ONE, post

TARGET = 0.5

# What the product binds to POST, for a payment of one key, as pgbench writes it.
_ONE_PAYMENT = (
    "1",
    "ARRAY['pgbench:' || :number]",
    "ARRAY['desk_payment.received']",
    "ARRAY[encode(sha256((:number)::text::bytea), 'hex')]",
    "ARRAY[now()]",
    """ARRAY['{"receipt_no":"' || :number || '"}']""",
    "ARRAY['pgbench:' || :number]",
    "ARRAY['desk']",
    "ARRAY[0]",
    "ARRAY['electricity_wallet']",
    "ARRAY[:tenancy]",
    "ARRAY[500]",
)
TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    clients: int = 16
    tenancies: int = 1_000
    round_s: float = 4
    rounds: int = 3

    @property
    def processes(self) -> int:
        """Ours, and pgbench's threads: one a core, as roles are run."""
        return min(self.clients, os.cpu_count() or 1)


async def results(size: Size | None = None) -> AsyncIterator[Result]:
    """Payments at the desk, each in a transaction of its own, in random wallets."""
    size = size or Size()
    async with new_database() as url:
        await make_mall(url, shops=size.tenancies)
        ours = peer = 0.0
        for number in range(size.rounds):
            ours = max(ours, await _ours(url, size, number))
            peer = max(peer, await _pgbench(url, size))
        name = f"post, {size.clients} clients at once in {size.processes} processes"
        yield Result(name, "postings", ours, "pgbench, same statement", peer, TARGET)


async def _ours(url: str, size: Size, number: int) -> float:
    """Our clients, begun together; what they posted a second."""
    command = (sys.executable, "-m", __spec__.name, url, f"{size.tenancies}", f"{size.round_s}")
    per_process = [size.clients // size.processes] * size.processes
    per_process[0] += size.clients % size.processes
    processes = [
        await asyncio.create_subprocess_exec(
            *(*command, f"{clients}", f"{number}:{place}"), stdin=PIPE, stdout=PIPE
        )
        for place, clients in enumerate(per_process)
    ]
    for process in processes:
        assert process.stdout is not None  # noqa: S101  it was asked for
        await process.stdout.readline()
    said = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    return sum(float(out) for out, _ in said)


async def clients(url: str, tenancies: int, round_s: float, count: int, prefix: str) -> float:
    """Post as services do: a transaction of the pool, the posting checked and hashed."""
    await open_database(url, pool_max=count)

    async def one(until: float) -> int:
        posted = 0
        while time.perf_counter() < until:
            number = int.from_bytes(os.urandom(8)) >> 2
            wallet = electricity_wallet(number % tenancies + 1)
            posting = desk_payment("cash", wallet, 500, {"receipt_no": f"{number}"})
            async with transaction() as connection:
                await post(connection, 1, posting, key=f"{prefix}:{number}", booked_at=OPENED)
            posted += 1
        return posted

    await asyncio.gather(*(rows(pool(), "SELECT pg_sleep(0.01)") for _ in range(count)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun = time.perf_counter()
    posted = await asyncio.gather(*(one(begun + round_s) for _ in range(count)))
    rate = sum(posted) / (time.perf_counter() - begun)
    await close_database()
    return rate


def script(tenancies: int) -> str:
    """The statement of the product as pgbench's script."""
    statement = POST_ONE
    for place in range(len(_ONE_PAYMENT), 0, -1):
        statement = statement.replace(f"${place}", _ONE_PAYMENT[place - 1])
    return (
        f"\\set number random(1, {2**62})\n\\set tenancy random(1, {tenancies})\n"
        f"{' '.join(statement.split())};\n"
    )


async def _pgbench(url: str, size: Size) -> float:
    """The wheel's own, with prepared statements."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "post.sql"
        file.write_text(script(size.tenancies), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            find_programs().path("pgbench"),
            *("--no-vacuum", "--protocol=prepared", f"--file={file}"),
            *(f"--client={size.clients}", f"--jobs={size.processes}"),
            *(f"--time={math.ceil(size.round_s)}", url),
            stdout=PIPE,
            stderr=PIPE,
        )
        said, faults = await process.communicate()
    found = TPS.search(said.decode())
    if process.returncode != 0 or found is None:
        raise RuntimeError(f"pgbench: {faults.decode()}")
    return float(found[1])


if __name__ == "__main__":
    _, url, tenancies, round_s, count, prefix = sys.argv
    rate = uvloop.run(clients(url, int(tenancies), float(round_s), int(count), prefix))
    sys.stdout.write(f"{rate}\n")
