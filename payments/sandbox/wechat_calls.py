"""WeChat Pay's door for merchants: who asks is proved, what is answered is signed."""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw

from payments.contract import Platform
from payments.sandbox import (
    wechat_bills,
    wechat_certificates,
    wechat_orders,
    wechat_refunds,
    wechat_wire,
)
from payments.sandbox.books import Order
from payments.sandbox.gate import through
from payments.sandbox.notifier import NotifierFullError
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_wire import RefusalError

_TRADE_TYPES = {"jsapi": "JSAPI", "native": "NATIVE", "h5": "MWEB"}
_ORDER = "/v3/pay/transactions/out-trade-no/<out_trade_no:str>"
_REFUNDS = "/v3/refund/domestic/refunds"

Content = dict[str, Any] | None
Act = Callable[..., Awaitable[Content]]


def add_calls(routes: Blueprint, sandbox: Sandbox) -> None:
    """All calls of the API; a name is what a fault of the table calls them by."""
    for name, method, path, act in (
        ("order", "POST", "/v3/pay/transactions/<kind:jsapi|native|h5>", _place),
        ("query", "GET", _ORDER, _query),
        ("close", "POST", f"{_ORDER}/close", _close),
        ("refund", "POST", _REFUNDS, _refund),
        ("refund_query", "GET", f"{_REFUNDS}/<out_refund_no:str>", _query_refund),
        ("bill", "GET", "/v3/bill/tradebill", _bill),
        ("certificates", "GET", "/v3/certificates", _certificates),
    ):
        handler = _handler(sandbox, name, act)
        routes.add_route(handler, path, methods=[method], name=name, unquote=True)

    @routes.get("/v3/billdownload/file")
    async def download(request: Request) -> HTTPResponse:
        async def act() -> HTTPResponse:
            _prove(request, sandbox)
            content = wechat_bills.download(sandbox, request.args.get("token") or "")
            return raw(
                content, content_type="application/octet-stream"
            )  # not signed: it has a hash

        return await through(sandbox, Platform.WECHAT, "bill_file", request, act)


def _handler(
    sandbox: Sandbox, name: str, act: Act
) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
    async def handle(request: Request, **named: str) -> HTTPResponse:
        async def answer() -> HTTPResponse:
            try:
                _prove(request, sandbox)
                content = await act(sandbox, request, **named)
            except RefusalError as error:
                return signed(sandbox, name, error.status, error.body)
            except NotifierFullError as error:
                refused = wechat_orders.busy(error)
                return signed(sandbox, name, refused.status, refused.body)
            return signed(sandbox, name, 204 if content is None else 200, content)

        return await through(sandbox, Platform.WECHAT, name, request, answer)

    return handle


def signed(sandbox: Sandbox, name: str, status: int, content: Content) -> HTTPResponse:
    """An answer that the merchant can prove."""
    body = b"" if content is None else wechat_wire.json_bytes(content)
    signer = sandbox.signer(Platform.WECHAT, name)
    headers = wechat_wire.signature_headers(body, signer, sandbox.now())
    return raw(body, status=status, headers=headers, content_type="application/json; charset=utf-8")


async def _place(sandbox: Sandbox, request: Request, kind: str) -> Content:
    trade_type = _TRADE_TYPES[kind]
    wanted = wechat_orders.read_order(request.body, trade_type)
    order = await wechat_orders.place(sandbox, wanted, trade_type)
    page = f"{sandbox.public_url}/pay/wechat/{order.out_trade_no}"
    if kind == "native":
        return {"code_url": page}  # really weixin://wxpay/…: nothing but WeChat could open that
    if kind == "h5":
        return {"h5_url": f"{page}?prepay_id={order.payload['prepay_id']}"}
    return {"prepay_id": order.payload["prepay_id"]}


async def _query(sandbox: Sandbox, request: Request, out_trade_no: str) -> Content:
    _check_mchid(request.args.get("mchid"), sandbox)
    found = _order(sandbox, out_trade_no)
    if found is None:
        raise RefusalError(404, "ORDER_NOT_EXIST", "订单不存在")
    return wechat_wire.transaction(found, wechat_orders.told_state(sandbox, found))


async def _close(sandbox: Sandbox, request: Request, out_trade_no: str) -> Content:
    try:
        asked = msgspec.json.decode(request.body, type=_Close)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise wechat_orders.parameter_error(str(error)) from None
    _check_mchid(asked.mchid, sandbox)
    await wechat_orders.close(sandbox, sandbox.keys.mchid, out_trade_no)
    return None


async def _refund(sandbox: Sandbox, request: Request) -> Content:
    wanted = wechat_refunds.read_refund(request.body)
    given = await wechat_refunds.give_back(sandbox, wanted)
    return wechat_wire.refund(given, sandbox.orders.order_of(given))


async def _query_refund(sandbox: Sandbox, _: Request, out_refund_no: str) -> Content:
    found = wechat_refunds.find(sandbox, out_refund_no)
    if found is None:
        raise RefusalError(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
    return wechat_wire.refund(found, sandbox.orders.order_of(found))


async def _bill(sandbox: Sandbox, request: Request) -> Content:
    asked = request.args.get("bill_date") or "", request.args.get("bill_type") or "ALL"
    return wechat_bills.ask(sandbox, *asked, request.args.get("tar_type") or "")


async def _certificates(sandbox: Sandbox, _: Request) -> Content:
    return wechat_certificates.answer(sandbox)


class _Close(msgspec.Struct):
    mchid: str


def _order(sandbox: Sandbox, out_trade_no: str) -> Order | None:
    return sandbox.orders.get(Platform.WECHAT, sandbox.keys.mchid, out_trade_no)


def _check_mchid(mchid: str | None, sandbox: Sandbox) -> None:
    if mchid != sandbox.keys.mchid:
        raise wechat_orders.parameter_error("字段“直连商户号”与签名的商户号不一致")


def _prove(request: Request, sandbox: Sandbox) -> None:
    try:
        body, target = request.body.decode(), request.raw_url.decode("ascii")
    except UnicodeDecodeError:
        raise wechat_orders.parameter_error("请求不是UTF-8编码") from None
    asked = wechat_wire.SignedRequest(
        method=request.method,
        target=target,
        body=body,
        authorization=request.headers.get("authorization", ""),
    )
    # SDKs stamp requests by the machine's clock, so this is held against the machine's clock too,
    # also where a test has given the sandbox another.
    wechat_wire.prove_request(asked, sandbox.keys, datetime.now(UTC))
