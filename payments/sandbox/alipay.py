"""The sandbox's Alipay: a gateway that verifies and signs as the real one, and a page to pay on.

As at the real gateway a trade exists only once its payer has opened it: until then a query or a
close answers ACQ.TRADE_NOT_EXIST, and the code stays payable until `time_expire`.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sanic import Blueprint, Request, Sanic
from sanic import json as json_answer
from sanic.response import HTTPResponse, redirect, text

from payments.contract import Platform
from payments.sandbox.alipay_wire import (
    SHANGHAI,
    Refusal,
    Wire,
    biz_content,
    moment,
    shanghai,
    yuan,
)
from payments.sandbox.pages import PaymentView, render_missing, render_payment
from payments.sandbox.state import (
    Delivery,
    Order,
    OrderBookFullError,
    OrderState,
    Posting,
    Sandbox,
)

# The real gateway waits 4 m, 10 m, 10 m, 1 h, 2 h, 6 h, 15 h; a demo also tries soon.
DELAYS_S = (0, 1, 2, 5, 15, 60, 240, 600, 600, 3600, 7200, 21600, 54000)

WAP_PAY = "alipay.trade.wap.pay"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)
_OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_STATUSES = {
    OrderState.WAITING: "WAIT_BUYER_PAY",
    OrderState.PAID: "TRADE_SUCCESS",
    OrderState.CLOSED: "TRADE_CLOSED",
}


def blueprint(sandbox: Sandbox) -> Blueprint:
    """Gateway, pay page and control of the sandbox's Alipay."""
    routes = Blueprint("sandbox_alipay")
    trades = _Trades(sandbox)
    gateway = _Gateway(trades)
    payer = _Payer(trades)
    page = "/pay/alipay/<out_trade_no:str>"
    routes.add_route(gateway.answer, "/gateway.do", methods=["GET", "POST"], name="gateway")
    routes.add_route(payer.show, page, methods=["GET"], name="show")
    routes.add_route(payer.pay, page, methods=["POST"], name="pay")
    routes.add_route(payer.control, "/control/alipay/pay", methods=["POST"], name="control")

    @routes.after_server_start
    async def resume(_app: Sanic[Any, Any]) -> None:
        for order in sandbox.orders.unnotified(Platform.ALIPAY):
            trades.notify(order)

    return routes


class _Trades:
    """What merchant and payer do to a trade."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.orders = sandbox.orders
        self.wire = Wire(sandbox.keys)
        self.seller_id = sandbox.keys.alipay_seller_id

    def state(self, order: Order) -> OrderState:
        """The state now: what nobody paid in time is closed."""
        expires_at = moment(order.payload["time_expire"])
        late = expires_at is not None and expires_at <= self.sandbox.now()
        return OrderState.CLOSED if order.state is OrderState.WAITING and late else order.state

    def find(self, out_trade_no: str) -> Order | None:
        """The merchant's order with this number."""
        return self.orders.get(Platform.ALIPAY, self.seller_id, out_trade_no)

    async def order(self, params: Mapping[str, str]) -> Order:
        """The order asked for: new, or the same again."""
        order = _read_order(params, self.seller_id, self.sandbox.now())
        kept = self.orders.get(*order.key)
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

    async def pay(self, order: Order) -> Order:
        """Pay what can be paid; anything else comes back as it is."""
        if self.state(order) is not OrderState.WAITING:
            return order
        order = replace(
            order,
            state=OrderState.PAID,
            transaction_id=order.payload["trade_no"],
            paid_at=self.sandbox.now().replace(microsecond=0),
            payload={**order.payload, "opened": True},
        )
        await self.orders.put(order)
        self.notify(order)
        return order

    def notify(self, order: Order) -> None:
        """Deliver TRADE_SUCCESS until the merchant answers exactly `success`."""

        def build(now: datetime) -> Posting:
            return Posting(order.notify_url, {"content-type": _FORM}, self.wire.notice(order, now))

        async def on_accepted(now: datetime) -> None:
            await self.orders.put(replace(self.orders.get(*order.key) or order, notified_at=now))

        self.sandbox.notifier.send(
            Delivery(
                key=tuple(map(str, order.key)),
                build=build,
                is_accepted=lambda status, body: status == 200 and body == b"success",
                delays_s=DELAYS_S,
                on_accepted=on_accepted,
            )
        )


class _Gateway:
    """The merchant's door."""

    def __init__(self, trades: _Trades) -> None:
        self._trades = trades
        self._calls: Mapping[str, Callable[[Mapping[str, str]], Awaitable[dict[str, str]]]] = {
            "alipay.trade.precreate": self._precreate,
            "alipay.trade.query": self._query,
            "alipay.trade.close": self._close,
        }

    async def answer(self, request: Request) -> HTTPResponse:
        """Signed JSON; only the wap page answers a browser, with its way to the pay page."""
        params = {**_flat(request.args), **_flat(request.form or {})}
        if params.get("method") == WAP_PAY:
            return await self._wap_pay(params)
        method = params.get("method", "")
        known = method in self._calls
        try:
            content = await self._call(method, params)
        except Refusal as refusal:
            content = refusal.content
        name = f"{method.replace('.', '_')}_response" if known else "error_response"
        body = self._trades.wire.answer(name, content)
        return HTTPResponse(body, content_type="text/html;charset=utf-8")

    async def _call(self, method: str, params: Mapping[str, str]) -> dict[str, str]:
        self._trades.wire.verify(params)
        if method not in self._calls:
            raise Refusal("40002", "isv.invalid-method", "不存在的方法名")
        try:
            facts = await self._calls[method](params)
        except OrderBookFullError as error:
            raise Refusal("20000", "aop.unknow-error", "系统繁忙") from error
        return {"code": "10000", "msg": "Success"} | facts

    async def _wap_pay(self, params: Mapping[str, str]) -> HTTPResponse:
        try:
            self._trades.wire.verify(params)
            order = await self._trades.order(params)
        except Refusal as refusal:
            return text(f"{refusal.sub_code}: {refusal.sub_msg}", status=400)
        return redirect(f"/pay/alipay/{order.out_trade_no}")

    async def _precreate(self, params: Mapping[str, str]) -> dict[str, str]:
        no = (await self._trades.order(params)).out_trade_no
        url = f"{self._trades.sandbox.public_url}/pay/alipay/{no}"
        return {"out_trade_no": no, "qr_code": url}

    async def _query(self, params: Mapping[str, str]) -> dict[str, str]:
        order = self._existing(params)
        facts = {
            "buyer_logon_id": "san***@sandbox.example",
            "buyer_pay_amount": yuan(order.amount_fen if order.paid_at else 0),
            "out_trade_no": order.out_trade_no,
            "total_amount": yuan(order.amount_fen),
            "trade_no": order.payload["trade_no"],
            "trade_status": _STATUSES[self._trades.state(order)],
        }
        if order.paid_at is not None:
            facts["send_pay_date"] = shanghai(order.paid_at)
        return facts

    async def _close(self, params: Mapping[str, str]) -> dict[str, str]:
        order = self._existing(params)
        if self._trades.state(order) is not OrderState.WAITING:
            raise Refusal("40004", "ACQ.REASON_TRADE_STATUS_INVALID", "交易状态异常")
        await self._trades.orders.put(replace(order, state=OrderState.CLOSED))
        return {"out_trade_no": order.out_trade_no, "trade_no": order.payload["trade_no"]}

    def _existing(self, params: Mapping[str, str]) -> Order:
        no = biz_content(params).get("out_trade_no", "")
        order = self._trades.find(no)
        if order is None or not order.payload["opened"]:
            raise Refusal("40004", "ACQ.TRADE_NOT_EXIST", "交易不存在")
        return order


class _Payer:
    """The payer's phone, and the script that stands in for it."""

    def __init__(self, trades: _Trades) -> None:
        self._trades = trades

    async def show(self, request: Request, out_trade_no: str) -> HTTPResponse:
        """What is to be paid, with a button; once paid, the way back to the merchant."""
        language = request.headers.get("accept-language", "")
        order = self._trades.find(out_trade_no)
        if order is None:
            return render_missing(language, Platform.ALIPAY)
        order = await self._trades.open(order)
        state = self._trades.state(order)
        return render_payment(
            PaymentView(
                order=order,
                description=order.payload["subject"],
                payable=state is OrderState.WAITING,
                return_url=self._way_back(order) if state is OrderState.PAID else None,
            ),
            language,
        )

    async def pay(self, request: Request, out_trade_no: str) -> HTTPResponse:
        """The button; the page itself then says what became of it."""
        order = self._trades.find(out_trade_no)
        if order is None:
            language = request.headers.get("accept-language", "")
            return render_missing(language, Platform.ALIPAY)
        await self._trades.pay(order)
        return redirect(request.path, status=303)

    def _way_back(self, order: Order) -> str | None:
        return_url: str = order.payload["return_url"]
        if not return_url:
            return None
        mark = "&" if "?" in return_url else "?"
        return f"{return_url}{mark}{self._trades.wire.way_back(order, self._trades.sandbox.now())}"

    async def control(self, request: Request) -> HTTPResponse:
        """`{"out_trade_no"}`: 200 once paid, 404 for none, 409 for one that is closed."""
        asked = request.json if isinstance(request.json, dict) else {}
        order = self._trades.find(str(asked.get("out_trade_no", "")))
        if order is None:
            return json_answer({"error": "no such out_trade_no"}, status=404)
        order = await self._trades.pay(order)
        state = self._trades.state(order)
        no, transaction_id = order.out_trade_no, order.transaction_id
        return json_answer(
            {"out_trade_no": no, "state": state.value, "transaction_id": transaction_id},
            status=200 if state is OrderState.PAID else 409,
        )


def _flat(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: items[-1] for name, items in values.items()}


def _read_order(params: Mapping[str, str], our_seller_id: str, now: datetime) -> Order:
    """The order that the parameters describe."""
    asked = biz_content(params)
    amount = _AMOUNT.fullmatch(asked.get("total_amount", ""))
    out_trade_no = asked.get("out_trade_no", "")
    notify_url = params.get("notify_url", "")
    fen = int(amount.group(1)) * 100 + int((amount.group(2) or "").ljust(2, "0")) if amount else 0
    if fen == 0 or not asked.get("subject") or not _OUT_TRADE_NO.fullmatch(out_trade_no):
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
