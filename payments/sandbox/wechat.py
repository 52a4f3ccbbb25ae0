"""WeChat Pay v3 over HTTP: the real paths, a page that pays, and a control for scripts."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw, redirect

from payments.contract import Platform
from payments.sandbox import wechat_bills, wechat_orders, wechat_refunds, wechat_wire
from payments.sandbox.books import Order
from payments.sandbox.pages import PaymentView, render_missing, render_payment
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_wire import RefusalError

_TRADE_TYPES = {"jsapi": "JSAPI", "native": "NATIVE", "h5": "MWEB"}


class _Control(msgspec.Struct, forbid_unknown_fields=True):
    out_trade_no: str


class _Close(msgspec.Struct):
    mchid: str


def blueprint(sandbox: Sandbox) -> Blueprint:
    """All of WeChat Pay's routes."""
    routes = Blueprint("wechat_pay")
    _add_orders(routes, sandbox)
    _add_refunds(routes, sandbox)
    _add_bills(routes, sandbox)
    _add_page(routes, sandbox)

    @routes.post("/control/wechat/pay")
    async def pay_now(request: Request) -> HTTPResponse:
        order = await wechat_orders.pay(sandbox, _named(sandbox, _read(request.body, _Control)))
        return _json({"out_trade_no": order.out_trade_no, "transaction_id": order.transaction_id})

    async def refuse(_: Request, error: RefusalError) -> HTTPResponse:
        return _signed(sandbox, error.status, error.body)

    routes.exception(RefusalError)(refuse)

    @routes.after_server_start
    async def resume(_: object) -> None:
        for order in sandbox.orders.unnotified(Platform.WECHAT):
            wechat_orders.notify(sandbox, order)
        for refund in sandbox.orders.unfinished(Platform.WECHAT):
            wechat_refunds.resume(sandbox, refund)

    return routes


def _add_orders(routes: Blueprint, sandbox: Sandbox) -> None:
    @routes.post("/v3/pay/transactions/<kind:jsapi|native|h5>")
    async def order(request: Request, kind: str) -> HTTPResponse:
        _prove(request, sandbox)
        trade_type = _TRADE_TYPES[kind]
        wanted = wechat_orders.read_order(request.body, trade_type)
        placed = await wechat_orders.place(sandbox, wanted, trade_type)
        return _signed(sandbox, 200, _placed(sandbox, placed, kind))

    @routes.get("/v3/pay/transactions/out-trade-no/<out_trade_no:str>")
    async def query(request: Request, out_trade_no: str) -> HTTPResponse:
        _prove(request, sandbox)
        _check_mchid(request.args.get("mchid"), sandbox)
        found = sandbox.orders.get(Platform.WECHAT, sandbox.keys.mchid, out_trade_no)
        if found is None:
            raise RefusalError(404, "ORDER_NOT_EXIST", "订单不存在")
        state = wechat_orders.trade_state(sandbox, found)
        return _signed(sandbox, 200, wechat_wire.transaction(found, state))

    @routes.post("/v3/pay/transactions/out-trade-no/<out_trade_no:str>/close")
    async def close(request: Request, out_trade_no: str) -> HTTPResponse:
        _prove(request, sandbox)
        _check_mchid(_read(request.body, _Close).mchid, sandbox)
        await wechat_orders.close(sandbox, sandbox.keys.mchid, out_trade_no)
        return _signed(sandbox, 204, None)


def _add_refunds(routes: Blueprint, sandbox: Sandbox) -> None:
    @routes.post("/v3/refund/domestic/refunds")
    async def refund(request: Request) -> HTTPResponse:
        _prove(request, sandbox)
        wanted = wechat_refunds.read_refund(request.body)
        given = await wechat_refunds.give_back(sandbox, wanted)
        order = sandbox.orders.order_of(given)
        return _signed(sandbox, 200, wechat_wire.refund(given, order))

    @routes.get("/v3/refund/domestic/refunds/<out_refund_no:str>", unquote=True)
    async def query_refund(request: Request, out_refund_no: str) -> HTTPResponse:
        _prove(request, sandbox)
        found = wechat_refunds.find(sandbox, out_refund_no)
        if found is None:
            raise RefusalError(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
        return _signed(sandbox, 200, wechat_wire.refund(found, sandbox.orders.order_of(found)))


def _add_bills(routes: Blueprint, sandbox: Sandbox) -> None:
    @routes.get("/v3/bill/tradebill")
    async def trade_bill(request: Request) -> HTTPResponse:
        _prove(request, sandbox)
        asked = request.args.get("bill_date") or "", request.args.get("bill_type") or "ALL"
        answer = wechat_bills.ask(sandbox, *asked, request.args.get("tar_type") or "")
        return _signed(sandbox, 200, answer)

    @routes.get("/v3/billdownload/file")
    async def download(request: Request) -> HTTPResponse:
        _prove(request, sandbox)
        content = wechat_bills.download(sandbox, request.args.get("token") or "")
        return raw(content, content_type="application/octet-stream")  # not signed: it has a hash


def _add_page(routes: Blueprint, sandbox: Sandbox) -> None:
    @routes.get("/pay/wechat/<reference:str>")
    async def show(request: Request, reference: str) -> HTTPResponse:
        order = _referred(sandbox, reference)
        language = request.headers.get("accept-language", "")
        if order is None:
            return render_missing(language)
        view = PaymentView(
            order=order,
            description=order.payload["description"],
            payable=not wechat_wire.is_expired(order, sandbox.now()),
            return_url=request.args.get("redirect_url"),
        )
        return render_payment(view, language)

    @routes.post("/pay/wechat/<reference:str>")
    async def pay(request: Request, reference: str) -> HTTPResponse:
        order = _referred(sandbox, reference)
        if order is None:
            return render_missing(request.headers.get("accept-language", ""))
        try:
            await wechat_orders.pay(sandbox, order)
        except RefusalError as error:
            if error.status == 429:
                raise
        # Paid by somebody else, or closed meanwhile: the page itself says which.
        query = f"?{request.query_string}" if request.query_string else ""
        return redirect(f"{request.path}{query}", status=303)


def _placed(sandbox: Sandbox, order: Order, kind: str) -> dict[str, str]:
    page = f"{sandbox.public_url}/pay/wechat/{order.out_trade_no}"
    if kind == "native":
        return {"code_url": page}  # really weixin://wxpay/…: nothing but WeChat could open that
    if kind == "h5":
        return {"h5_url": f"{page}?prepay_id={order.payload['prepay_id']}"}
    return {"prepay_id": order.payload["prepay_id"]}


def _prove(request: Request, sandbox: Sandbox) -> None:
    try:
        body, target = request.body.decode(), request.raw_url.decode("ascii")
    except UnicodeDecodeError:
        raise wechat_orders.parameter_error("请求不是UTF-8编码") from None
    signed = wechat_wire.SignedRequest(
        method=request.method,
        target=target,
        body=body,
        authorization=request.headers.get("authorization", ""),
    )
    # SDKs stamp requests by the machine's clock, so this is held against the machine's clock too,
    # also where a test has given the sandbox another.
    wechat_wire.prove_request(signed, sandbox.keys, datetime.now(UTC))


def _check_mchid(mchid: str | None, sandbox: Sandbox) -> None:
    if mchid != sandbox.keys.mchid:
        raise wechat_orders.parameter_error("字段“直连商户号”与签名的商户号不一致")


def _read(body: bytes, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise wechat_orders.parameter_error(str(error)) from None


def _named(sandbox: Sandbox, control: _Control) -> Order:
    order = sandbox.orders.find(Platform.WECHAT, control.out_trade_no)
    if order is None:
        raise RefusalError(404, "ORDER_NOT_EXIST", "订单不存在")
    return order


def _referred(sandbox: Sandbox, reference: str) -> Order | None:
    """The order that a page's address names, by its number or its prepay_id."""
    order = sandbox.orders.find(Platform.WECHAT, reference)
    if order is not None or not reference.startswith("wx"):
        return order
    return sandbox.orders.prepaid(reference)


def _signed(sandbox: Sandbox, status: int, content: dict[str, Any] | None) -> HTTPResponse:
    body = b"" if content is None else wechat_wire.json_bytes(content)
    headers = wechat_wire.signature_headers(body, sandbox.keys, sandbox.now())
    return raw(body, status=status, headers=headers, content_type="application/json; charset=utf-8")


def _json(content: dict[str, Any]) -> HTTPResponse:
    return raw(wechat_wire.json_bytes(content), content_type="application/json; charset=utf-8")
