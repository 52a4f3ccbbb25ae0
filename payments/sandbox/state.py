"""What all sandbox platforms share: keys, a clock, the orders and the posting of notices."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from payments.contract import Platform
from payments.sandbox.keys import SandboxKeys
from payments.tls import trusted_roots

ORDERS_MAX = 100_000
DELIVERIES_MAX = 10_000
DELIVERIES_AT_ONCE_MAX = 50
NOTICE_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024

logger = logging.getLogger("mallwatt.sandbox")


class OrderState(StrEnum):
    """What became of a sandbox order."""

    WAITING = "waiting"
    PAID = "paid"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Order:
    """One order of one merchant; changed by `dataclasses.replace` and `OrderBook.put`.

    `payload` (JSON) is whatever its platform keeps of the request; `notified_at`: the merchant
    took the notice, so a restart need not send it again.
    """

    platform: Platform
    merchant_id: str
    out_trade_no: str
    amount_fen: int
    notify_url: str
    created_at: datetime
    payload: Mapping[str, Any]
    state: OrderState = OrderState.WAITING
    transaction_id: str | None = None
    paid_at: datetime | None = None
    notified_at: datetime | None = None

    @property
    def key(self) -> tuple[Platform, str, str]:
        """What names an order: platform, merchant, out_trade_no."""
        return (self.platform, self.merchant_id, self.out_trade_no)


class OrderBookFullError(Exception):
    """No room for another order."""


class OrderBook:
    """All orders, in memory and in one SQLite file; what `put` returned from survives a kill.

    Reads and the change in memory are synchronous: check the state and call `put` without an
    await between, and nobody else comes between either.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="orders")
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS orders (platform TEXT, merchant_id TEXT,"
            " out_trade_no TEXT, content TEXT, PRIMARY KEY (platform, merchant_id, out_trade_no))"
        )
        self._database.commit()
        rows = self._database.execute("SELECT content FROM orders ORDER BY rowid")
        self._orders = {order.key: order for order in (_order(row[0]) for row in rows)}

    def get(self, platform: Platform, merchant_id: str, out_trade_no: str) -> Order | None:
        """The order of this merchant with this number."""
        return self._orders.get((platform, merchant_id, out_trade_no))

    def all(self, platform: Platform) -> Iterator[Order]:
        """Every order of a platform, oldest first."""
        return (order for order in tuple(self._orders.values()) if order.platform is platform)

    def find(self, platform: Platform, out_trade_no: str) -> Order | None:
        """The newest order with this number, of any merchant."""
        newest_first = reversed(tuple(self.all(platform)))
        return next((order for order in newest_first if order.out_trade_no == out_trade_no), None)

    def unnotified(self, platform: Platform) -> list[Order]:
        """Paid orders whose notice the merchant has not taken yet; no more than can be sent."""
        found = (
            order
            for order in self.all(platform)
            if order.state is OrderState.PAID and order.notified_at is None
        )
        return list(islice(found, DELIVERIES_MAX // len(Platform)))

    async def put(self, order: Order) -> None:
        """Keep an order, new or changed: at once in memory, and on return in the file."""
        if order.key not in self._orders and len(self._orders) >= ORDERS_MAX:
            raise OrderBookFullError(f"{ORDERS_MAX} orders are kept, no more")
        self._orders[order.key] = order
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write, order)

    def close(self) -> None:
        """Finish writing and close the file."""
        self._writer.shutdown(wait=True)
        self._database.close()

    def _write(self, order: Order) -> None:
        with self._database:
            self._database.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " content = excluded.content",
                (*order.key, _text(order)),
            )


@dataclass(frozen=True, slots=True)
class Posting:
    """One HTTP POST to a merchant."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice to be delivered, signed afresh for each attempt.

    `build` gets the time of the attempt; `is_accepted` judges status and body of the answer;
    `delays_s` waits before each attempt, so its length is the number of attempts.
    """

    key: tuple[str, ...]
    build: Callable[[datetime], Posting]
    is_accepted: Callable[[int, bytes], bool]
    delays_s: Sequence[float]
    on_accepted: Callable[[datetime], Awaitable[None]]


class NotifierFullError(Exception):
    """Too many notices are under way."""


class Notifier:
    """Posts notices as tasks: bounded in number, retried on schedule, cancelled by `aclose`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._tasks: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(DELIVERIES_AT_ONCE_MAX)
        self._client = httpx.AsyncClient(
            verify=trusted_roots(), timeout=NOTICE_TIMEOUT_S, trust_env=False
        )

    def send(self, delivery: Delivery) -> None:
        """Start delivering; the same key under way is not started twice."""
        if delivery.key in self._tasks:
            return
        if len(self._tasks) >= DELIVERIES_MAX:
            raise NotifierFullError(f"{DELIVERIES_MAX} notices are under way")
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks[delivery.key] = task
        task.add_done_callback(lambda _: self._tasks.pop(delivery.key, None))

    async def aclose(self) -> None:
        """Cancel what is under way and close connections."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # at most DELIVERIES_MAX, all ending
        await self._client.aclose()

    async def _deliver(self, delivery: Delivery) -> None:
        for delay_s in delivery.delays_s:
            await asyncio.sleep(delay_s)
            async with self._places:
                accepted = await self._attempt(delivery)
            if accepted:
                await delivery.on_accepted(self._now())
                return
        logger.warning("notice %s was never taken", "/".join(delivery.key))

    async def _attempt(self, delivery: Delivery) -> bool:
        posting = delivery.build(self._now())
        try:
            async with self._client.stream(
                "POST", posting.url, headers=dict(posting.headers), content=posting.body
            ) as answer:
                body = b""
                async for chunk in answer.aiter_bytes():
                    body = (body + chunk)[:ANSWER_BYTES_MAX]
                    if len(body) == ANSWER_BYTES_MAX:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            logger.info("notice to %s failed: %r", posting.url, error)
            return False
        accepted = delivery.is_accepted(answer.status_code, body)
        if not accepted:
            logger.info("notice to %s was refused: %d", posting.url, answer.status_code)
        return accepted


@dataclass(slots=True)
class Sandbox:
    """One running sandbox, handed to every platform's `blueprint(sandbox)`."""

    public_url: str  # of the sandbox itself, without a slash at the end
    data: Path
    keys: SandboxKeys
    orders: OrderBook
    notifier: Notifier
    now: Callable[[], datetime]

    async def aclose(self) -> None:
        """Stop delivering, then close the books."""
        await self.notifier.aclose()
        self.orders.close()


def open_sandbox(
    *, public_url: str, data: Path, keys: SandboxKeys, now: Callable[[], datetime] | None = None
) -> Sandbox:
    """A sandbox over its data folder; `now` is the machine's clock unless given."""
    clock = now or (lambda: datetime.now(UTC))
    return Sandbox(
        public_url=public_url.rstrip("/"),
        data=data,
        keys=keys,
        orders=OrderBook(data / "orders.sqlite"),
        notifier=Notifier(clock),
        now=clock,
    )


_TIMES = ("created_at", "paid_at", "notified_at")


def _text(order: Order) -> str:
    fields = {name: getattr(order, name) for name in Order.__slots__}
    fields["payload"] = dict(order.payload)
    return json.dumps(fields, ensure_ascii=False, default=datetime.isoformat)


def _order(text: str) -> Order:
    fields = json.loads(text)
    times = {
        name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields[name] is not None
    }
    return Order(
        **fields
        | times
        | {"platform": Platform(fields["platform"]), "state": OrderState(fields["state"])}
    )
