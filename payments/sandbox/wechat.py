"""WeChat Pay v3 over HTTP: its API, a page that pays, and a control for scripts."""

from typing import Annotated, Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw, redirect

from payments.contract import Platform
from payments.sandbox import wechat_orders, wechat_refunds, wechat_wire
from payments.sandbox.books import Order
from payments.sandbox.pages import PaymentView, render_missing, render_payment
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_calls import add_calls, signed
from payments.sandbox.wechat_wire import RefusalError


class _Control(msgspec.Struct, forbid_unknown_fields=True):
    out_trade_no: str
    fen: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None


def blueprint(sandbox: Sandbox) -> Blueprint:
    """All of WeChat Pay's routes."""
    routes = Blueprint("wechat_pay")
    add_calls(routes, sandbox)
    _add_page(routes, sandbox)

    @routes.post("/control/wechat/pay")
    async def pay_now(request: Request) -> HTTPResponse:
        told = _read(request.body, _Control)
        order = await wechat_orders.pay(sandbox, _named(sandbox, told), told.fen)
        return _json({"out_trade_no": order.out_trade_no, "transaction_id": order.transaction_id})

    async def refuse(_: Request, error: RefusalError) -> HTTPResponse:
        return signed(sandbox, "control", error.status, error.body)

    routes.exception(RefusalError)(refuse)

    @routes.after_server_start
    async def resume(_: object) -> None:
        for order in sandbox.orders.unnotified(Platform.WECHAT):
            wechat_orders.notify(sandbox, order)
        for refund in sandbox.orders.unfinished(Platform.WECHAT):
            wechat_refunds.resume(sandbox, refund)

    return routes


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


def _json(content: dict[str, Any]) -> HTTPResponse:
    return raw(wechat_wire.json_bytes(content), content_type="application/json; charset=utf-8")
