"""Alipay's rules for a trade, the platform's side: what may be made, paid and closed.

As at the real gateway a trade exists only once its payer has opened it: until then a query or a
close answers ACQ.TRADE_NOT_EXIST, and the code stays payable until `time_expire`.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from payments.contract import Platform
from payments.sandbox.alipay_wire import (
    SHANGHAI,
    Refusal,
    Wire,
    biz_content,
    fen_from_yuan,
    moment,
)
from payments.sandbox.books import Order, OrderState, RefundState
from payments.sandbox.faults import Kind
from payments.sandbox.notifier import Delivery, Posting
from payments.sandbox.state import Sandbox

FORM = "application/x-www-form-urlencoded; charset=utf-8"
_OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)


class Trades:
    """What merchant and payer do to a trade."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.orders = sandbox.orders
        self.wire = Wire(sandbox.keys, partial(sandbox.signer, Platform.ALIPAY))
        self.seller_id = sandbox.keys.alipay_seller_id

    def state(self, order: Order) -> OrderState:
        """The state now: what nobody paid in time is closed."""
        expires_at = moment(order.payload["time_expire"])
        late = expires_at is not None and expires_at <= self.sandbox.now()
        return OrderState.CLOSED if order.state is OrderState.WAITING and late else order.state

    def status(self, order: Order) -> str:
        """Alipay's own word for it: a trade given back whole is TRADE_CLOSED."""
        match self.state(order):
            case OrderState.WAITING:
                return "WAIT_BUYER_PAY"
            case OrderState.PAID if self.refunded_fen(order) < order.amount_fen:
                return "TRADE_SUCCESS"
            case _:
                return "TRADE_CLOSED"

    def told_status(self, order: Order) -> str:
        """What a query answers: the truth, unless a fault of the table makes it lag behind."""
        if order.state is OrderState.PAID:
            lag = self.sandbox.faults.take(Platform.ALIPAY, "query", [Kind.QUERY_UNPAID])
            return "WAIT_BUYER_PAY" if lag else self.status(order)
        return self.status(order)

    def refunded_fen(self, order: Order) -> int:
        """What was given back, all refunds together."""
        refunds = self.orders.refunds_of(order)
        return sum(one.amount_fen for one in refunds if one.state is RefundState.SUCCESS)

    def find(self, out_trade_no: str) -> Order | None:
        """The merchant's order with this number."""
        return self.orders.get(Platform.ALIPAY, self.seller_id, out_trade_no)

    def existing(self, params: Mapping[str, str]) -> Order:
        """The trade that parameters name; raises ACQ.TRADE_NOT_EXIST."""
        asked = biz_content(params)
        if asked.get("trade_no"):
            order = self.orders.paid_as(Platform.ALIPAY, asked["trade_no"])
        else:
            order = self.find(asked.get("out_trade_no", ""))
        if order is None or not order.payload["opened"]:
            raise Refusal("40004", "ACQ.TRADE_NOT_EXIST", "交易不存在")
        return order

    async def order(self, params: Mapping[str, str]) -> Order:
        """The order asked for: new, or the same again."""
        order = _read_order(params, self.seller_id, self.sandbox.now())
        kept = self.find(order.out_trade_no)
        if kept is None:
            await self.orders.put(order)
            return order
        match self.state(kept):
            case OrderState.PAID:
                raise Refusal("40004", "ACQ.TRADE_HAS_SUCCESS", "交易已被支付")
            case OrderState.CLOSED:
                raise Refusal("40004", "ACQ.TRADE_HAS_CLOSE", "交易已经关闭")
            case OrderState.WAITING if kept.amount_fen != order.amount_fen:
                raise Refusal("40004", "ACQ.CONTEXT_INCONSISTENT", "交易信息被篡改")
        return kept

    async def open(self, order: Order) -> Order:
        """The payer has the trade on the screen: from here on it exists."""
        if order.payload["opened"]:
            return order
        order = replace(order, payload={**order.payload, "opened": True})
        await self.orders.put(order)
        return order

    async def pay(self, order: Order, fen: int | None = None) -> Order:
        """Pay what can be paid; anything else comes back as it is."""
        if self.state(order) is not OrderState.WAITING:
            return order
        return await self.land(order, fen)

    async def land(self, order: Order, fen: int | None = None) -> Order:
        """A payment arrives, whatever the trade's state; of another amount if told."""
        order = replace(
            order,
            amount_fen=order.amount_fen if fen is None else fen,
            state=OrderState.PAID,
            transaction_id=order.payload["trade_no"],
            paid_at=self.sandbox.now().replace(microsecond=0),
            payload={**order.payload, "opened": True},
        )
        await self.orders.put(order)
        self.notify(order)
        return order

    async def close(self, order: Order) -> None:
        """Close what nobody paid."""
        if self.state(order) is not OrderState.WAITING:
            raise Refusal("40004", "ACQ.REASON_TRADE_STATUS_INVALID", "交易状态异常")
        closed = replace(order, state=OrderState.CLOSED)
        await self.orders.put(closed)
        if self.sandbox.faults.take(Platform.ALIPAY, "close", [Kind.CLOSE_RACED]):
            self.sandbox.later.after(0, lambda: self.land(closed))

    def notify(self, order: Order) -> None:
        """Deliver TRADE_SUCCESS until the merchant answers exactly `success`."""

        async def on_accepted(now: datetime) -> None:
            await self.orders.put(replace(self.orders.latest(order), notified_at=now))

        delivery = Delivery(
            key=order.key,
            build=lambda at: posting(order, self.wire.notice(order, at)),
            is_accepted=is_taken,
            delays_s=self.sandbox.pace.alipay_notice_s,
            on_accepted=on_accepted,
        )
        if self.sandbox.faults.take(Platform.ALIPAY, "notice", [Kind.NOTICE_UNPAID]):
            self.sandbox.notifier.send(self._unpaid(order, then=delivery))
        else:
            self.sandbox.notices.send(Platform.ALIPAY, "notice", delivery)

    def _unpaid(self, order: Order, then: Delivery) -> Delivery:
        """A notice that says unpaid, tried once; the true one comes after it."""

        async def nothing(_: datetime) -> None: ...

        return Delivery(
            key=(*order.key, "unpaid"),
            build=lambda at: posting(order, self.wire.unpaid_notice(order, at)),
            is_accepted=is_taken,
            delays_s=(0.0,),
            on_accepted=nothing,
            on_end=lambda: self.sandbox.notices.send(Platform.ALIPAY, "notice", then),
        )


def posting(order: Order, body: bytes) -> Posting:
    """A form on its way to a trade's notify_url."""
    return Posting(order.notify_url, {"content-type": FORM}, body)


def is_taken(status: int, body: bytes) -> bool:
    """Whether a merchant's answer stops the deliveries."""
    return status == 200 and body == b"success"


def _read_order(params: Mapping[str, str], our_seller_id: str, now: datetime) -> Order:
    """The order that the parameters describe."""
    asked = biz_content(params)
    out_trade_no = asked.get("out_trade_no", "")
    notify_url = params.get("notify_url", "")
    fen = fen_from_yuan(asked.get("total_amount", ""))
    if not fen or not asked.get("subject") or not _OUT_TRADE_NO.fullmatch(out_trade_no):
        raise Refusal("40004", "ACQ.INVALID_PARAMETER", "参数无效")
    if urlsplit(notify_url).scheme not in {"http", "https"}:
        raise Refusal("40004", "ACQ.INVALID_PARAMETER", "通知地址无效")
    if asked.get("seller_id", our_seller_id) != our_seller_id:
        raise Refusal("40004", "ACQ.INVALID_PARAMETER", "卖家不是签约商户")
    expires = asked.get("time_expire", "")
    expires_at = moment(expires)
    if expires and (expires_at is None or expires_at <= now):
        raise Refusal("40004", "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR", "超时时间设置错误")
    day = f"{now.astimezone(SHANGHAI):%Y%m%d}"
    return Order(
        platform=Platform.ALIPAY,
        merchant_id=our_seller_id,
        out_trade_no=out_trade_no,
        amount_fen=fen,
        notify_url=notify_url,
        created_at=now,
        payload={
            "subject": asked["subject"],
            "return_url": params.get("return_url", ""),
            "time_expire": expires,
            "trade_no": f"{day}22001{secrets.randbelow(10**15):015d}",
            "notify_id": f"{day}{secrets.randbelow(10**26):026d}",
            "opened": False,
        },
    )
