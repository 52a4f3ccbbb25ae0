"""Payment callbacks: how fast they are kept and answered, and when their money is credited."""

import asyncio
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.callers import Seen, call
from bench.database import new_database
from bench.mall import make_mall
from bench.measure import Figure, Measured, Result
from bench.notices import Payers
from server.local.ports import free_port, is_free
from server.local.redis import EmbeddedRedis
from server.models.database import pool, rows

TARGET = 0.2
P99_MS = 100
CREDITED_P99_MS = 50
GROWTH_MB = 10
LOOK_S = 0.002
START_S = 30
WARM_S = 5
NOBODY = "http://127.0.0.1:9"  # no platform is asked anything
WATCH_S = 60
ALIKE = 20
SHOPS = 200
# what is credited by now; numbers are given before they are committed, so not in their order
CREDITED = "SELECT id, out_trade_no FROM payment_credit WHERE id > $1 - 200"


@dataclass(frozen=True, slots=True)
class Size:
    """How many callbacks are sent: five rounds at full speed, and some at a pace."""

    a_round: int = 20_000 if os.environ.get("FULL") else 2_000
    rounds: int = 5
    in_flight: int = 50
    paced: int = 1_000
    a_second: int = 100


async def results(size: Size | None = None) -> AsyncIterator[Measured]:
    """Half of WeChat's, half of Alipay's, to processes as `mallwatt serve` starts them."""
    size = size or Size()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mallwatt-bench-")))
        url = await stack.enter_async_context(new_database())
        redis = await stack.enter_async_context(EmbeddedRedis(folder))
        await make_mall(url, shops=SHOPS)
        payers = Payers(url, folder, SHOPS)
        await payers.sign_up()
        env = {
            "MALLWATT_DATABASE_URL": url,
            "MALLWATT_DATA_DIR": str(folder),
            "MALLWATT_WECHAT_PAY_URL": NOBODY,
            "MALLWATT_ALIPAY_GATEWAY_URL": NOBODY,
        }
        if redis.url is not None:
            env["MALLWATT_REDIS_URL"] = redis.url
        bench = _Bench(folder, env, payers, size)
        yield await bench.alike()
        async for figure in bench.credited():
            yield figure
        async for measured in bench.intake():
            yield measured


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where the servers are started, and who pays."""

    folder: Path
    env: Mapping[str, str]
    payers: Payers
    size: Size

    async def alike(self) -> Figure:
        """The same notice at once on connections of their own."""
        async with self._web() as (port, _):
            _, (request,) = await self.payers.pay(1)
            answered(await call(self.folder, [request] * ALIKE, port, lines=ALIKE))
            await asyncio.sleep(1)
        found = await rows(pool(), "SELECT count(*) AS n FROM payment_credit")
        return Figure(f"credits by {ALIKE} of the same at once", found[0]["n"], "", at_most=1)

    async def credited(self) -> AsyncIterator[Figure]:
        """From sending a callback until another connection sees its payment credited."""
        size = self.size
        numbers, requests = await self.payers.pay(size.paced)
        async with self._web() as (port, _), self._serve("worker", 0):
            await asyncio.sleep(WARM_S)  # it tells nobody when it is ready
            _, first = await self.payers.pay(size.in_flight)  # a new process reads its keys
            answered(await call(self.folder, first, port, lines=1, a_second=size.a_second))
            looking = asyncio.create_task(self._watch(set(numbers)))
            seen = await call(
                self.folder, requests, port, lines=size.in_flight, a_second=size.a_second
            )
            answered(seen)
            at = await looking
        took_s = [at[number] - sent for number, sent in zip(numbers, seen.sent_at, strict=True)]
        name = f"callback to credited at {size.a_second} a second"
        yield Figure(f"{name}, p50", 1000 * of_all(took_s, 0.5), "ms")
        yield Figure(f"{name}, p99", 1000 * of_all(took_s, 0.99), "ms", CREDITED_P99_MS)

    async def intake(self) -> AsyncIterator[Measured]:
        """As fast as they are answered, in turn with a route that does nothing."""
        size, rss, ours, bare = self.size, [0.0], [], []
        async with (
            self._web() as (port, web),
            self._start((sys.executable, "-m", "bench.bare_web"), free_port()) as (nothing, _),
        ):
            for _ in range(size.rounds):
                _, requests = await self.payers.pay(size.a_round)
                bare.append(await call(self.folder, requests, nothing, lines=size.in_flight))
                ours.append(await call(self.folder, requests, port, lines=size.in_flight))
                answered(ours[-1])
                rss.append(rss_mb(web.pid))
        best, limit = max(ours, key=_per_s), max(bare, key=_per_s)
        name = f"callbacks, {size.in_flight} in flight"
        route = "a bare route"
        yield Result(name, "callbacks", best.per_s, route, limit.per_s, TARGET)
        p99_ms = 1000 * min(of_all(one.took_s, 0.99) for one in ours)
        yield Figure(f"{name}, p99", p99_ms, "ms", P99_MS)
        first, last = size.a_round, size.a_round * size.rounds
        growth = f"memory of the web role from {first:,} to {last:,} callbacks: growth"
        yield Figure(f"memory of the web role after {last:,} callbacks", rss[-1], "MB")
        yield Figure(growth, rss[-1] - rss[1], "MB", GROWTH_MB)

    async def _watch(self, numbers: set[str]) -> dict[str, float]:
        """When each payment was seen in the books (seconds of the machine's clock)."""
        at: dict[str, float] = {}
        last, until = 0, time.monotonic() + WATCH_S
        connection = await asyncpg.connect(self.env["MALLWATT_DATABASE_URL"])
        try:
            while numbers - at.keys() and time.monotonic() < until:
                for one in await connection.fetch(CREDITED, last):
                    at.setdefault(one["out_trade_no"], time.monotonic())
                    last = max(last, one["id"])
                await asyncio.sleep(LOOK_S)
        finally:
            await connection.close()
        return at

    def _web(self) -> AbstractAsyncContextManager[tuple[int, Process]]:
        return self._serve("web", free_port())

    def _serve(self, role: str, port: int) -> AbstractAsyncContextManager[tuple[int, Process]]:
        return self._start((sys.executable, "-m", "server.cli", "serve", role), port)

    @asynccontextmanager
    async def _start(self, command: Sequence[str], port: int) -> AsyncIterator[tuple[int, Process]]:
        own = {**self.env, "PORT": str(port)}
        own |= {"MALLWATT_HTTP": f"127.0.0.1:{port}"} if port else {}
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | own, stdout=DEVNULL
        )
        try:
            async with asyncio.timeout(START_S):
                while port and is_free(port):  # noqa: ASYNC110  only the port tells
                    await asyncio.sleep(0.1)
            yield port, process
        finally:
            process.terminate()
            await process.wait()


def _per_s(seen: Seen) -> float:
    return seen.per_s


def of_all(values: Sequence[float], share: float) -> float:
    """The value below which so much of all is."""
    return sorted(values)[int(len(values) * share)]


def answered(seen: Seen) -> None:
    """Every callback has to be answered with success."""
    if set(seen.statuses) - {200, 204}:
        raise RuntimeError(f"answers that are none: {seen.statuses}")


def rss_mb(pid: int) -> float:
    """What a process occupies."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = status.partition("VmRSS:")[2].split()[0]
    return int(kilobytes) / 1024
