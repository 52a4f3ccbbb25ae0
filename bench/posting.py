"""How fast postings get into the journal, against pgbench with the same statement."""

import asyncio
import math
import os
import re
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.database import new_database
from bench.mall import OPENED, make_mall
from bench.measure import Result
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment
from server.local.postgres_programs import find_programs
from server.models.database import transaction
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
    round_s: float = 2
    rounds: int = 5


async def results(size: Size | None = None) -> AsyncIterator[Result]:
    """Payments at the desk, each in a transaction of its own, in random wallets."""
    size = size or Size()
    async with new_database(pool_max=size.clients) as url:
        await make_mall(url, shops=size.tenancies)
        ours = alone = within = 0.0
        for _ in range(size.rounds):
            ours = max(ours, await _ours(size))
            within = max(within, await _pgbench(url, size, "BEGIN;\n{};\nCOMMIT;\n"))
            alone = max(alone, await _pgbench(url, size, "{};\n"))
        name = f"post, {size.clients} clients at once"
        peer = "pgbench, same statement"
        yield Result(name, "postings", ours, f"{peer} in BEGIN and COMMIT", within, TARGET)
        yield Result(name, "postings", ours, f"{peer} alone", alone, TARGET)


async def _ours(size: Size) -> float:
    """As services do it: a transaction of the pool, the posting checked and hashed."""
    begun = time.perf_counter()

    async def client() -> int:
        posted = 0
        while time.perf_counter() < begun + size.round_s:
            number = int.from_bytes(os.urandom(8)) >> 2
            wallet = electricity_wallet(number % size.tenancies + 1)
            posting = desk_payment("cash", wallet, 500, {"receipt_no": f"{number}"})
            async with transaction() as connection:
                await post(connection, 1, posting, key=f"ours:{number}", booked_at=OPENED)
            posted += 1
        return posted

    posted = await asyncio.gather(*(client() for _ in range(size.clients)))
    return sum(posted) / (time.perf_counter() - begun)


def script(tenancies: int, shape: str) -> str:
    """The statement of the product as pgbench's script, within whatever `shape` says."""
    statement = POST_ONE
    for place in range(len(_ONE_PAYMENT), 0, -1):
        statement = statement.replace(f"${place}", _ONE_PAYMENT[place - 1])
    variables = f"\\set number random(1, {2**62})\n\\set tenancy random(1, {tenancies})\n"
    return variables + shape.format(" ".join(statement.split()))


async def _pgbench(url: str, size: Size, shape: str) -> float:
    """The wheel's own, with prepared statements."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "post.sql"
        file.write_text(script(size.tenancies, shape), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            find_programs().path("pgbench"),
            *("--no-vacuum", "--protocol=prepared", f"--file={file}"),
            *(f"--client={size.clients}", f"--jobs={min(size.clients, os.cpu_count() or 1)}"),
            *(f"--time={math.ceil(size.round_s)}", url),
            stdout=PIPE,
            stderr=PIPE,
        )
        said, faults = await process.communicate()
    found = TPS.search(said.decode())
    if process.returncode != 0 or found is None:
        raise RuntimeError(f"pgbench: {faults.decode()}")
    return float(found[1])
