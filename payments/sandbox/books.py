"""What the platforms remember: orders and refunds, in memory and in one SQLite file."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from payments.contract import Platform

ORDERS_MAX = 100_000
REFUNDS_MAX = 100_000
TOLD_MAX = 20  # of one refund
UNNOTIFIED_MAX = 1_000  # of a platform and a kind, that a start takes up again


class OrderState(StrEnum):
    """What became of a sandbox order."""

    WAITING = "waiting"
    PAID = "paid"
    CLOSED = "closed"


class RefundState(StrEnum):
    """What became of a sandbox refund."""

    PROCESSING = "processing"
    SUCCESS = "success"
    CLOSED = "closed"
    ABNORMAL = "abnormal"


@dataclass(frozen=True, slots=True)
class Order:
    """One order of one merchant; changed by `dataclasses.replace` and `Books.put`.

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
    def key(self) -> tuple[str, ...]:
        """What names an order: platform, merchant, out_trade_no."""
        return (self.platform.value, self.merchant_id, self.out_trade_no)


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund of one order; `notify_url` empty where the merchant wants no notice."""

    platform: Platform
    merchant_id: str
    out_trade_no: str
    out_refund_no: str
    amount_fen: int
    notify_url: str
    created_at: datetime
    payload: Mapping[str, Any]
    state: RefundState = RefundState.PROCESSING
    finished_at: datetime | None = None
    notified_at: datetime | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What names a refund: WeChat Pay's number is the merchant's, Alipay's the trade's."""
        scope = self.out_trade_no if self.platform is Platform.ALIPAY else ""
        return (self.platform.value, self.merchant_id, scope, self.out_refund_no)

    @property
    def order_key(self) -> tuple[str, ...]:
        """What names its order."""
        return (self.platform.value, self.merchant_id, self.out_trade_no)

    @property
    def returns(self) -> bool:
        """Whether a bank is to send back what was told as given back."""
        return self.state is RefundState.SUCCESS and bool(self.payload.get("returns"))

    @property
    def is_held(self) -> bool:
        """Whether its money is no longer the order's: all but a closed one."""
        return self.state is not RefundState.CLOSED


Entry = Order | Refund


def told(refund: Refund, state: RefundState, at: datetime) -> dict[str, Any]:
    """A refund's payload once more was told of it: bills show what was known when."""
    history = refund.payload.get("history", [])
    return dict(refund.payload) | {"history": [*history, [at.isoformat(), state.value]][-TOLD_MAX:]}


class OrderBookFullError(Exception):
    """No room for another order or refund."""


class OrderBook:
    """All orders and refunds; what `put` returned from survives a kill.

    Reads and the change in memory are synchronous: check the state and call `put` without an
    await between, and nobody else comes between either.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._orders: dict[tuple[str, ...], Order] = {}
        self._refunds: dict[tuple[str, ...], Refund] = {}
        self._refunds_of: dict[tuple[str, ...], dict[tuple[str, ...], Refund]] = {}
        self._net_fen = dict.fromkeys(Platform, 0)
        self._numbered: dict[tuple[str, str], Refund] = {}
        self._newest: dict[tuple[str, str], tuple[str, ...]] = {}
        self._paid_as: dict[tuple[str, str], tuple[str, ...]] = {}
        self._prepaid: dict[str, tuple[str, ...]] = {}
        self._file = _File(path)
        for entry in self._file.entries():
            self._keep(entry)

    def get(self, platform: Platform, merchant_id: str, out_trade_no: str) -> Order | None:
        """The order of this merchant with this number."""
        return self._orders.get((platform.value, merchant_id, out_trade_no))

    def latest(self, order: Order) -> Order:
        """The same order as it is now."""
        return self._orders.get(order.key, order)

    def order_of(self, refund: Refund) -> Order:
        """The order that a refund gives back."""
        return self._orders[refund.order_key]

    def all(self, platform: Platform) -> Iterator[Order]:
        """Every order of a platform, oldest first."""
        return (order for order in tuple(self._orders.values()) if order.platform is platform)

    def find(self, platform: Platform, out_trade_no: str) -> Order | None:
        """The newest order with this number, of any merchant."""
        return self._orders.get(self._newest.get((platform.value, out_trade_no), ()))

    def paid_as(self, platform: Platform, transaction_id: str) -> Order | None:
        """The order that was paid under a platform's own number."""
        return self._orders.get(self._paid_as.get((platform.value, transaction_id), ()))

    def prepaid(self, prepay_id: str) -> Order | None:
        """The order whose payload has this prepay_id."""
        return self._orders.get(self._prepaid.get(prepay_id, ()))

    def refund(self, *key: str) -> Refund | None:
        """The refund with this key (`Refund.key`)."""
        return self._refunds.get(key)

    def refund_numbered(self, platform: Platform, out_refund_no: str) -> Refund | None:
        """The refund with this number that changed last, of any order."""
        return self._numbered.get((platform.value, out_refund_no))

    def refunds(self, platform: Platform) -> Iterator[Refund]:
        """Every refund of a platform, oldest first."""
        return (refund for refund in tuple(self._refunds.values()) if refund.platform is platform)

    def refunds_of(self, order: Order) -> tuple[Refund, ...]:
        """The refunds of one order, oldest first."""
        return tuple(self._refunds_of.get(order.key, {}).values())

    def refunded_fen(self, order: Order) -> int:
        """What is given back of an order, or on the way."""
        return sum(refund.amount_fen for refund in self.refunds_of(order) if refund.is_held)

    def net_fen(self, platform: Platform) -> int:
        """What came at a platform less what was given back, or is on the way."""
        return self._net_fen[platform]

    def unnotified(self, platform: Platform) -> list[Order]:
        """Paid orders whose notice the merchant has not taken yet; no more than can be sent."""
        found = (
            order
            for order in self.all(platform)
            if order.state is OrderState.PAID and order.notified_at is None
        )
        return list(islice(found, UNNOTIFIED_MAX))

    def unfinished(self, platform: Platform) -> list[Refund]:
        """Refunds that are processed, or whose notice is not taken; no more than can be sent."""
        found = (
            refund
            for refund in self.refunds(platform)
            if refund.state is RefundState.PROCESSING
            or refund.returns
            or (refund.notify_url and refund.notified_at is None)
        )
        return list(islice(found, UNNOTIFIED_MAX))

    async def put(self, entry: Entry) -> None:
        """Keep an order or refund, new or changed: at once in memory, on return in the file."""
        if isinstance(entry, Order):
            if entry.key not in self._orders and len(self._orders) >= ORDERS_MAX:
                raise OrderBookFullError(f"{ORDERS_MAX} orders are kept, no more")
        elif entry.key not in self._refunds and len(self._refunds) >= REFUNDS_MAX:
            raise OrderBookFullError(f"{REFUNDS_MAX} refunds are kept, no more")
        self._keep(entry)
        await self._file.write(entry)

    def close(self) -> None:
        """Finish writing and close the file."""
        self._file.close()

    def _keep(self, entry: Entry) -> None:
        kept = self._orders if isinstance(entry, Order) else self._refunds
        self._net_fen[entry.platform] += _worth_fen(entry) - _worth_fen(kept.get(entry.key))
        if isinstance(entry, Order):
            self._orders[entry.key] = entry
            self._newest[(entry.platform.value, entry.out_trade_no)] = entry.key
            if entry.transaction_id is not None:
                self._paid_as[(entry.platform.value, entry.transaction_id)] = entry.key
            if "prepay_id" in entry.payload:
                self._prepaid[entry.payload["prepay_id"]] = entry.key
        else:
            self._refunds[entry.key] = entry
            self._numbered[(entry.platform.value, entry.out_refund_no)] = entry
            self._refunds_of.setdefault(entry.order_key, {})[entry.key] = entry


def _worth_fen(entry: Entry | None) -> int:
    """What an entry is to the merchant's money at the platform."""
    if isinstance(entry, Order):
        return entry.amount_fen if entry.state is OrderState.PAID else 0
    return -entry.amount_fen if entry is not None and entry.is_held else 0


_Row = tuple[str, tuple[str, ...]]  # table, values
_Waiting = tuple[_Row, asyncio.Future[None]]
_UPSERTS = {
    "orders": "INSERT INTO orders VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET content = excluded.content",
    "refunds": "INSERT INTO refunds VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET content = excluded.content",
}


class _File:
    """The entries on disk. What comes while a transaction is written goes into the next one."""

    def __init__(self, path: Path) -> None:
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="orders")
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")  # outlives a kill, not a power cut
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS orders (platform TEXT, merchant_id TEXT,"
            " out_trade_no TEXT, content TEXT, PRIMARY KEY (platform, merchant_id, out_trade_no))"
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS refunds (platform TEXT, merchant_id TEXT, scope TEXT,"
            " out_refund_no TEXT, content TEXT,"
            " PRIMARY KEY (platform, merchant_id, scope, out_refund_no))"
        )
        self._database.commit()
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    def entries(self) -> Iterator[Entry]:
        """Everything, orders before their refunds, oldest first."""
        for (content,) in self._database.execute("SELECT content FROM orders ORDER BY rowid"):
            yield Order(**_fields(content, OrderState))
        for (content,) in self._database.execute("SELECT content FROM refunds ORDER BY rowid"):
            yield Refund(**_fields(content, RefundState))

    async def write(self, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((_row(entry), written))
        if self._task is None:
            self._task = loop.create_task(self._drain())
        await written

    def close(self) -> None:
        self._writer.shutdown(wait=True)
        self._database.close()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows = [row for row, _ in batch]
            try:
                await loop.run_in_executor(self._writer, self._write, rows)
            except (sqlite3.Error, RuntimeError) as error:  # a full disk, or closed meanwhile
                _tell(batch, error)
            else:
                _tell(batch, None)
        self._task = None

    def _write(self, rows: list[_Row]) -> None:
        with self._database:
            for table, values in rows:
                self._database.execute(_UPSERTS[table], values)


def _row(entry: Entry) -> _Row:
    table = "orders" if isinstance(entry, Order) else "refunds"
    return table, (*entry.key, _text(entry))


def _tell(batch: list[_Waiting], error: sqlite3.Error | RuntimeError | None) -> None:
    for _, written in batch:
        if written.done():  # whoever waited was cancelled
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)


_TIMES = ("created_at", "paid_at", "finished_at", "notified_at")


def _text(entry: Entry) -> str:
    fields = {name: getattr(entry, name) for name in type(entry).__slots__}
    fields["payload"] = dict(entry.payload)
    return json.dumps(fields, ensure_ascii=False, default=datetime.isoformat)


def _fields(text: str, states: type[StrEnum]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    times = {name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields.get(name)}
    kinds = {"platform": Platform(fields["platform"]), "state": states(fields["state"])}
    return fields | times | kinds
