"""The sandbox's Alipay over HTTP: its gateway, a page to pay on, and a control for scripts."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sanic import Blueprint, Request, Sanic
from sanic import json as json_answer
from sanic.response import HTTPResponse, raw, redirect, text

from payments.contract import Platform
from payments.sandbox import alipay_certificates
from payments.sandbox.alipay_bills import Bills
from payments.sandbox.alipay_orders import Trades
from payments.sandbox.alipay_refunds import Refunds
from payments.sandbox.alipay_wire import Refusal, shanghai, yuan
from payments.sandbox.books import Order, OrderBookFullError, OrderState
from payments.sandbox.gate import through
from payments.sandbox.notifier import NotifierFullError
from payments.sandbox.pages import PaymentView, render_missing, render_payment
from payments.sandbox.state import Sandbox

WAP_PAY = "alipay.trade.wap.pay"
_Call = Callable[[Mapping[str, str]], Awaitable[dict[str, str]]]


def blueprint(sandbox: Sandbox) -> Blueprint:
    """Gateway, pay page and control of the sandbox's Alipay."""
    routes = Blueprint("sandbox_alipay")
    trades = Trades(sandbox)
    refunds = Refunds(trades)
    bills = Bills(trades)
    gateway = _Gateway(trades, refunds, bills)
    payer = _Payer(trades)
    page = "/pay/alipay/<out_trade_no:str>"
    routes.add_route(gateway.answer, "/gateway.do", methods=["GET", "POST"], name="gateway")
    routes.add_route(payer.show, page, methods=["GET"], name="show")
    routes.add_route(payer.pay, page, methods=["POST"], name="pay")
    routes.add_route(payer.control, "/control/alipay/pay", methods=["POST"], name="control")

    @routes.get("/downloadBillFile.resource")
    async def download(request: Request) -> HTTPResponse:
        async def act() -> HTTPResponse:
            content = bills.download(request.args.get("fileId") or "")
            if content is None:
                return text("the file is gone", status=404)
            return raw(content, content_type="application/zip")

        return await through(sandbox, Platform.ALIPAY, "bill_file", request, act)

    @routes.after_server_start
    async def resume(_app: Sanic[Any, Any]) -> None:
        for order in sandbox.orders.unnotified(Platform.ALIPAY):
            trades.notify(order)
        for refund in sandbox.orders.unfinished(Platform.ALIPAY):
            refunds.resume(refund)

    return routes


class _Gateway:
    """The merchant's door; a name beside a call is what a fault of the table calls it by."""

    def __init__(self, trades: Trades, refunds: Refunds, bills: Bills) -> None:
        self._trades = trades
        self._sandbox = trades.sandbox
        self._calls: Mapping[str, tuple[str, _Call]] = {
            "alipay.trade.precreate": ("order", self._precreate),
            "alipay.trade.query": ("query", self._query),
            "alipay.trade.close": ("close", self._close),
            "alipay.trade.refund": ("refund", refunds.refund),
            "alipay.trade.fastpay.refund.query": ("refund_query", refunds.query),
            "alipay.data.dataservice.bill.downloadurl.query": ("bill", bills.ask),
            "alipay.open.app.alipaycert.download": ("certificates", self._certificate),
        }

    async def answer(self, request: Request) -> HTTPResponse:
        """Signed JSON; only the wap page answers a browser, with its way to the pay page."""
        params = {**_flat(request.args), **_flat(request.form or {})}
        if params.get("method") == WAP_PAY:
            return await self._wap_pay(request, params)
        method = params.get("method", "")
        name, act = self._calls.get(method, ("unknown", _unknown))

        async def answer() -> HTTPResponse:
            try:
                content = await self._call(act, params)
            except Refusal as refusal:
                content = refusal.content
            called = f"{method.replace('.', '_')}_response"
            title = called if method in self._calls else "error_response"
            first_sn = alipay_certificates.first_sn(params, self._sandbox.signing)
            body = self._trades.wire.answer(title, content, name, first_sn)
            return HTTPResponse(body, content_type="text/html;charset=utf-8")

        return await through(self._sandbox, Platform.ALIPAY, name, request, answer)

    async def _call(self, act: _Call, params: Mapping[str, str]) -> dict[str, str]:
        self._trades.wire.verify(params)
        alipay_certificates.check(params, self._sandbox.signing)
        try:
            facts = await act(params)
        except (OrderBookFullError, NotifierFullError) as error:
            raise Refusal("20000", "aop.unknow-error", "系统繁忙") from error
        return {"code": "10000", "msg": "Success"} | facts

    async def _wap_pay(self, request: Request, params: Mapping[str, str]) -> HTTPResponse:
        async def answer() -> HTTPResponse:
            try:
                self._trades.wire.verify(params)
                alipay_certificates.check(params, self._sandbox.signing)
                order = await self._trades.order(params)
            except Refusal as refusal:
                return text(f"{refusal.sub_code}: {refusal.sub_msg}", status=400)
            return redirect(f"/pay/alipay/{order.out_trade_no}")

        return await through(self._sandbox, Platform.ALIPAY, "order", request, answer)

    async def _certificate(self, params: Mapping[str, str]) -> dict[str, str]:
        return alipay_certificates.download(params, self._sandbox.signing)

    async def _precreate(self, params: Mapping[str, str]) -> dict[str, str]:
        no = (await self._trades.order(params)).out_trade_no
        url = f"{self._trades.sandbox.public_url}/pay/alipay/{no}"
        return {"out_trade_no": no, "qr_code": url}

    async def _query(self, params: Mapping[str, str]) -> dict[str, str]:
        order = self._trades.existing(params)
        status = self._trades.told_status(order)
        paid_at = order.paid_at if status != "WAIT_BUYER_PAY" else None
        facts = {
            "buyer_logon_id": "san***@sandbox.example",
            "buyer_pay_amount": yuan(order.amount_fen if paid_at else 0),
            "out_trade_no": order.out_trade_no,
            "total_amount": yuan(order.amount_fen),
            "trade_no": order.payload["trade_no"],
            "trade_status": status,
        }
        return facts | ({"send_pay_date": shanghai(paid_at)} if paid_at else {})

    async def _close(self, params: Mapping[str, str]) -> dict[str, str]:
        order = self._trades.existing(params)
        await self._trades.close(order)
        return {"out_trade_no": order.out_trade_no, "trade_no": order.payload["trade_no"]}


class _Payer:
    """The payer's phone, and the script that stands in for it."""

    def __init__(self, trades: Trades) -> None:
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
        fen = asked.get("fen")
        order = await self._trades.pay(order, fen if isinstance(fen, int) and fen > 0 else None)
        state = self._trades.state(order)
        no, transaction_id = order.out_trade_no, order.transaction_id
        return json_answer(
            {"out_trade_no": no, "state": state.value, "transaction_id": transaction_id},
            status=200 if state is OrderState.PAID else 409,
        )


async def _unknown(_: Mapping[str, str]) -> dict[str, str]:
    raise Refusal("40002", "isv.invalid-method", "不存在的方法名")


def _flat(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: items[-1] for name, items in values.items()}
