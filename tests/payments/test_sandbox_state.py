"""What the sandbox's platforms share: orders that survive, notices that end."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from payments.contract import Platform
from payments.sandbox import books
from payments.sandbox import notifier as notifier_module
from payments.sandbox.books import Order, OrderBook, OrderBookFullError, OrderState
from payments.sandbox.notifier import Delivery, Notifier, NotifierFullError, Posting
from tests.payments.peer import Peer, http_answer

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)


def order(number: str, platform: Platform = Platform.WECHAT) -> Order:
    return Order(
        platform=platform,
        merchant_id="1900000109",
        out_trade_no=number,
        amount_fen=8880,
        notify_url="http://127.0.0.1:9/notify",
        created_at=NOW,
        payload={"description": "电费", "nested": {"a": [1, None]}},
    )


async def test_a_book_reopens_as_it_was(tmp_path: Path) -> None:
    waiting, alipays = order("T1"), order("T1", Platform.ALIPAY)
    paid = replace(
        order("T2"), state=OrderState.PAID, transaction_id="42", paid_at=NOW, notified_at=NOW
    )
    book = OrderBook(tmp_path / "orders.sqlite")
    for kept in (waiting, alipays, order("T2"), paid):
        await book.put(kept)
    book.close()

    again = OrderBook(tmp_path / "orders.sqlite")
    assert list(again.all(Platform.WECHAT)) == [waiting, paid]
    assert again.get(Platform.ALIPAY, "1900000109", "T1") == alipays
    assert again.find(Platform.WECHAT, "T2") == paid
    assert again.find(Platform.ALIPAY, "T2") is None
    again.close()


async def test_a_book_knows_whom_to_tell(tmp_path: Path) -> None:
    book = OrderBook(tmp_path / "orders.sqlite")
    told = replace(order("T1"), state=OrderState.PAID, paid_at=NOW, notified_at=NOW)
    untold = replace(order("T2"), state=OrderState.PAID, paid_at=NOW)
    for kept in (told, untold, order("T3"), replace(order("T4"), state=OrderState.CLOSED)):
        await book.put(kept)
    assert book.unnotified(Platform.WECHAT) == [untold]
    assert book.unnotified(Platform.ALIPAY) == []
    book.close()


async def test_a_full_book_changes_orders_but_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "ORDERS_MAX", 1)
    book = OrderBook(tmp_path / "orders.sqlite")
    await book.put(order("T1"))
    await book.put(replace(order("T1"), state=OrderState.CLOSED))
    with pytest.raises(OrderBookFullError):
        await book.put(order("T2"))
    book.close()


class Story:
    """A delivery that writes down what happened to it."""

    def __init__(self, url: str, *delays_s: float) -> None:
        self.accepted_at: list[datetime] = []
        self.attempts = 0
        self.done = asyncio.Event()
        self.delivery = Delivery(
            key=("wechat", "1900000109", url),
            build=lambda _: self._build(url),
            is_accepted=lambda status, body: (status, body) == (200, b"success"),
            delays_s=delays_s,
            on_accepted=self._accept,
        )

    def _build(self, url: str) -> Posting:
        self.attempts += 1
        return Posting(url, {"X-Attempt": str(self.attempts)}, b"{}")

    async def _accept(self, at: datetime) -> None:
        self.accepted_at.append(at)
        self.done.set()


async def test_each_attempt_is_built_afresh_until_one_is_taken(peer: Peer) -> None:
    refusals = [http_answer(500), http_answer(200, b"fail"), b"nonsense\r\n\r\n"]
    peer.answers(*refusals, http_answer(200, b"success"))
    notifier, story = Notifier(lambda: NOW), Story(peer.url, 0, 0, 0, 0, 0)
    notifier.send(story.delivery)
    async with asyncio.timeout(5):
        await story.done.wait()
    await notifier.aclose()
    assert story.accepted_at == [NOW]
    assert [received.headers["x-attempt"] for received in peer.received] == ["1", "2", "3", "4"]


async def test_a_merchant_in_the_same_process_hands_in_its_door() -> None:
    answers: list[tuple[int, bytes] | None] = [None, (500, b""), (200, b"success")]
    posted: list[Posting] = []

    async def door(posting: Posting) -> tuple[int, bytes] | None:
        posted.append(posting)
        return answers.pop(0)

    notifier, story = Notifier(lambda: NOW, post=door), Story("nowhere", 0, 0, 0, 0)
    notifier.send(story.delivery)
    async with asyncio.timeout(5):
        await notifier.quiet()
    await notifier.aclose()
    assert story.accepted_at == [NOW]
    assert [posting.url for posting in posted] == ["nowhere"] * 3


async def test_a_notice_that_cannot_be_made_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def build(_: datetime) -> Posting:
        raise ValueError("no such key")

    notifier, story = Notifier(lambda: NOW), Story("nowhere", 0)
    notifier.send(replace(story.delivery, build=build))
    await notifier.quiet()
    await notifier.aclose()
    assert "no such key" in caplog.text
    assert notifier.count == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[", "notify", "http://\x00/"])
async def test_a_merchant_that_cannot_be_reached_is_given_up(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier, story = Notifier(lambda: NOW), Story(url, 0, 0)
    with caplog.at_level(logging.WARNING):
        notifier.send(story.delivery)
        async with asyncio.timeout(5):
            await asyncio.gather(*notifier._tasks.values())
    await notifier.aclose()
    assert "never taken" in caplog.text
    assert story.attempts == 2
    assert story.accepted_at == []


async def test_one_delivery_a_key_and_only_so_many_at_once(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "DELIVERIES_MAX", 1)
    notifier, story = Notifier(lambda: NOW), Story(peer.url, 3600)
    notifier.send(story.delivery)
    notifier.send(story.delivery)
    with pytest.raises(NotifierFullError):
        notifier.send(Story(f"{peer.url}/other", 3600).delivery)
    await notifier.aclose()
    assert story.attempts == 0
    assert peer.received == []
