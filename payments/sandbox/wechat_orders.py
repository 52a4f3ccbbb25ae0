"""WeChat Pay's rules for an order, the platform's side: what may be made, paid and closed."""

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import msgspec

from payments.contract import Platform
from payments.sandbox.books import Entry, Order, OrderBookFullError, OrderState
from payments.sandbox.faults import Kind
from payments.sandbox.notifier import Delivery, NotifierFullError
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_wire import (
    RefusalError,
    Seal,
    is_expired,
    new_prepay_id,
    new_transaction_id,
    payment_notice,
)

DESCRIPTION_BYTES_MAX = 127

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class _Amount(msgspec.Struct):
    total: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    currency: Annotated[str, msgspec.Meta(pattern="^CNY$")] = "CNY"


class _Payer(msgspec.Struct):
    openid: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class _H5Info(msgspec.Struct):
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class _Scene(msgspec.Struct):
    payer_client_ip: Annotated[str, msgspec.Meta(min_length=1, max_length=45)]
    h5_info: _H5Info | None = None


class OrderRequest(msgspec.Struct):
    """The body of POST /v3/pay/transactions/{jsapi,native,h5}."""

    appid: _Id
    mchid: _Id
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=127)]
    out_trade_no: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_*\-]{6,32}$")]
    notify_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^?#\s]+$", max_length=255)]
    amount: _Amount
    payer: _Payer | None = None
    scene_info: _Scene | None = None
    time_expire: datetime | None = None
    attach: Annotated[str, msgspec.Meta(max_length=128)] = ""


def read_order(body: bytes, trade_type: str) -> OrderRequest:
    """The request in a body; raises RefusalError (400 PARAM_ERROR)."""
    try:
        request = msgspec.json.decode(body, type=OrderRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise parameter_error(str(error)) from None
    size = len(request.description.encode())
    if size > DESCRIPTION_BYTES_MAX:
        raise parameter_error(f"字段“商品描述”字节数 {size}，大于最大值 {DESCRIPTION_BYTES_MAX}")
    if request.time_expire is not None and request.time_expire.utcoffset() is None:
        raise parameter_error("字段“交易结束时间”不符合rfc3339标准格式")
    if trade_type == "JSAPI" and request.payer is None:
        raise parameter_error("字段“支付者”必填性规则校验失败")
    if trade_type == "MWEB" and (request.scene_info is None or request.scene_info.h5_info is None):
        raise parameter_error("字段“场景信息”必填性规则校验失败")
    return request


async def place(sandbox: Sandbox, request: OrderRequest, trade_type: str) -> Order:
    """Make an order, or find the same one again; anything else under its number is refused."""
    if (request.mchid, request.appid) != (sandbox.keys.mchid, sandbox.keys.appid):
        raise RefusalError(400, "APPID_MCHID_NOT_MATCH", "商户号与appid不匹配")
    now = sandbox.now()
    known = sandbox.orders.get(Platform.WECHAT, request.mchid, request.out_trade_no)
    if known is not None:
        return _again(known, _facts(request, trade_type), now)
    expire = request.time_expire
    if expire is not None and expire <= now:
        raise parameter_error("字段“交易结束时间”早于当前时间")
    order = Order(
        platform=Platform.WECHAT,
        merchant_id=request.mchid,
        out_trade_no=request.out_trade_no,
        amount_fen=request.amount.total,
        notify_url=request.notify_url,
        created_at=now,
        payload=_facts(request, trade_type)
        | {
            "prepay_id": new_prepay_id(now),
            "time_expire": expire.isoformat() if expire else None,
        },
    )
    await keep(sandbox, order)
    return order


async def close(sandbox: Sandbox, merchant_id: str, out_trade_no: str) -> None:
    """Close an unpaid order. For an unknown one WeChat Pay answers success too (observed)."""
    order = sandbox.orders.get(Platform.WECHAT, merchant_id, out_trade_no)
    if order is None:
        return
    _refuse_unless_waiting(order, sandbox.now())
    closed = replace(order, state=OrderState.CLOSED)
    await keep(sandbox, closed)
    if sandbox.faults.take(Platform.WECHAT, "close", [Kind.CLOSE_RACED]):
        sandbox.later.after(0, lambda: land(sandbox, closed))


async def pay(sandbox: Sandbox, order: Order, fen: int | None = None) -> Order:
    """The payer pays: the order is paid from here on, and its notice is on the way."""
    _refuse_unless_waiting(order, sandbox.now())
    return await land(sandbox, order, fen)


async def land(sandbox: Sandbox, order: Order, fen: int | None = None) -> Order:
    """A payment arrives, whatever the order's state; of another amount if told."""
    now = sandbox.now()
    paid = replace(
        order,
        amount_fen=order.amount_fen if fen is None else fen,
        state=OrderState.PAID,
        transaction_id=new_transaction_id(now),
        paid_at=now,
        payload=dict(order.payload) | {"notice_id": str(uuid.uuid4())},
    )
    await keep(sandbox, paid)
    notify(sandbox, paid)
    return paid


def notify(sandbox: Sandbox, order: Order) -> None:
    """Deliver a paid order's notice until the merchant takes it, or the schedule ends."""

    async def mark(at: datetime) -> None:
        await sandbox.orders.put(replace(sandbox.orders.latest(order), notified_at=at))

    delivery = Delivery(
        key=order.key,
        build=lambda at: payment_notice(order, seal(sandbox, "notice"), at),
        is_accepted=is_taken,
        delays_s=sandbox.pace.wechat_notice_s,
        on_accepted=mark,
    )
    if sandbox.faults.take(Platform.WECHAT, "notice", [Kind.NOTICE_UNPAID]):
        sandbox.notifier.send(_unpaid(sandbox, order, then=delivery))
    else:
        send(sandbox, "notice", delivery)


def _unpaid(sandbox: Sandbox, order: Order, then: Delivery) -> Delivery:
    """A notice that says unpaid, tried once; the true one comes after it."""

    async def nothing(_: datetime) -> None: ...

    return Delivery(
        key=(*order.key, "unpaid"),
        build=lambda at: payment_notice(order, seal(sandbox, "notice"), at, "NOTPAY"),
        is_accepted=is_taken,
        delays_s=(0.0,),
        on_accepted=nothing,
        on_end=lambda: send(sandbox, "notice", then),
    )


def trade_state(sandbox: Sandbox, order: Order) -> str:
    """What a query says of the order now: SUCCESS, REFUND, NOTPAY or CLOSED."""
    if order.state is OrderState.PAID:
        return "REFUND" if sandbox.orders.refunded_fen(order) else "SUCCESS"
    is_closed = order.state is OrderState.CLOSED or is_expired(order, sandbox.now())
    return "CLOSED" if is_closed else "NOTPAY"


def told_state(sandbox: Sandbox, order: Order) -> str:
    """What a query answers: the truth, unless a fault of the table makes it lag behind."""
    state = trade_state(sandbox, order)
    if order.state is OrderState.PAID:
        lag = sandbox.faults.take(Platform.WECHAT, "query", [Kind.QUERY_UNPAID])
        return "NOTPAY" if lag else state
    return state


def send(sandbox: Sandbox, call: str, delivery: Delivery) -> None:
    """Start a notice on its way; raises RefusalError where there are too many."""
    try:
        sandbox.notices.send(Platform.WECHAT, call, delivery)
    except NotifierFullError as error:
        raise busy(error) from None


def seal(sandbox: Sandbox, call: str) -> Seal:
    """What closes the next callback of this kind."""
    return Seal(sandbox.keys.apiv3_key, sandbox.signer(Platform.WECHAT, call))


def is_taken(status: int, _: bytes) -> bool:
    """Whether a merchant's answer stops the deliveries."""
    return status in {200, 204}


async def keep(sandbox: Sandbox, entry: Entry) -> None:
    """Write an order or refund; raises RefusalError where the book is full."""
    try:
        await sandbox.orders.put(entry)
    except OrderBookFullError as error:
        raise busy(error) from None


def busy(error: Exception) -> RefusalError:
    """429 RATELIMIT_EXCEEDED."""
    return RefusalError(429, "RATELIMIT_EXCEEDED", str(error))


def parameter_error(message: str) -> RefusalError:
    """400 PARAM_ERROR."""
    return RefusalError(400, "PARAM_ERROR", message)


def _facts(request: OrderRequest, trade_type: str) -> dict[str, Any]:
    """What a repeated request under the same number must repeat."""
    return {
        "trade_type": trade_type,
        "appid": request.appid,
        "description": request.description,
        "amount": request.amount.total,
        "notify_url": request.notify_url,
        "attach": request.attach,
        "openid": request.payer.openid if request.payer else None,
    }


def _again(known: Order, facts: dict[str, Any], now: datetime) -> Order:
    if known.payload["trade_type"] != facts["trade_type"]:
        raise RefusalError(403, "OUT_TRADE_NO_USED", "商户订单号重复")
    if any(known.payload[name] != value for name, value in facts.items()):
        raise RefusalError(400, "INVALID_REQUEST", "请求重入时，参数与首次请求时不一致")
    _refuse_unless_waiting(known, now)
    return known


def _refuse_unless_waiting(order: Order, now: datetime) -> None:
    if order.state is OrderState.PAID:
        raise RefusalError(400, "ORDERPAID", "该订单已支付")
    if order.state is OrderState.CLOSED or is_expired(order, now):
        raise RefusalError(400, "ORDER_CLOSED", "该订单已关闭")
