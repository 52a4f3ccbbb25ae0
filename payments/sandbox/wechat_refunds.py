"""WeChat Pay's rules for giving money back, the platform's side."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from payments.contract import Platform
from payments.sandbox.books import Order, OrderState, Refund, RefundState, told
from payments.sandbox.faults import Kind
from payments.sandbox.notifier import Delivery, NotifierFullError
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_orders import busy, is_taken, keep, parameter_error, seal, send
from payments.sandbox.wechat_wire import RefusalError, new_refund_id, refund_notice

REFUNDS_OF_ORDER_MAX = 50
REFUNDABLE = timedelta(days=365)
REASON_BYTES_MAX = 80

_OUTCOMES = {
    Kind.REFUND_CLOSED: RefundState.CLOSED,
    Kind.REFUND_ABNORMAL: RefundState.ABNORMAL,
    Kind.REFUND_STUCK: RefundState.PROCESSING,
    Kind.REFUND_RETURNED: RefundState.SUCCESS,
}


class _Amount(msgspec.Struct):
    refund: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    total: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    currency: Annotated[str, msgspec.Meta(pattern="^CNY$")]


class RefundRequest(msgspec.Struct):
    """The body of POST /v3/refund/domestic/refunds."""

    out_refund_no: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_\-|*@]{1,64}$")]
    amount: _Amount
    out_trade_no: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    transaction_id: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    reason: str = ""
    notify_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^?#\s]+$", max_length=256)] = ""


def read_refund(body: bytes) -> RefundRequest:
    """The request in a body; raises RefusalError (400 PARAM_ERROR)."""
    try:
        request = msgspec.json.decode(body, type=RefundRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise parameter_error(str(error)) from None
    if (request.out_trade_no is None) == (request.transaction_id is None):
        raise parameter_error("微信支付订单号与商户订单号必须二选一")
    if len(request.reason.encode()) > REASON_BYTES_MAX:
        raise parameter_error(f"字段“退款原因”字节数大于最大值 {REASON_BYTES_MAX}")
    return request


def own_request(order: Order, out_refund_no: str, fen: int) -> RefundRequest:
    """What the platform's own pages ask for: nobody is told."""
    amount = _Amount(refund=fen, total=order.amount_fen, currency="CNY")
    return RefundRequest(out_refund_no, amount, out_trade_no=order.out_trade_no)


async def give_back(sandbox: Sandbox, request: RefundRequest) -> Refund:
    """Accept a refund, or find the same one again; anything else under its number is refused."""
    known = find(sandbox, request.out_refund_no)
    order = _order(sandbox, request)
    if known is not None:
        facts = (order, request.amount.refund, request.amount.total)
        if facts != (sandbox.orders.order_of(known), known.amount_fen, order.amount_fen):
            raise _invalid("订单金额或退款金额与之前请求不一致，请核实后再试")
        return known
    _refuse_too_soon(sandbox, order)
    try:
        _refuse_over_limits(sandbox, order, request)
    except RefusalError:
        sandbox.refused_at[order.key] = sandbox.now()
        raise
    return await accept(sandbox, order, request)


def find(sandbox: Sandbox, out_refund_no: str) -> Refund | None:
    """The merchant's refund with this number."""
    return sandbox.orders.refund(Platform.WECHAT, sandbox.keys.mchid, "", out_refund_no)


async def accept(sandbox: Sandbox, order: Order, request: RefundRequest) -> Refund:
    """The refund is PROCESSING from here on, and settled after a while."""
    if sandbox.later.is_full:
        raise busy(NotifierFullError("too many refunds are under way"))
    now = sandbox.now()
    fault = sandbox.faults.take(Platform.WECHAT, "refund", _OUTCOMES)
    refund = Refund(
        platform=Platform.WECHAT,
        merchant_id=order.merchant_id,
        out_trade_no=order.out_trade_no,
        out_refund_no=request.out_refund_no,
        amount_fen=request.amount.refund,
        notify_url=request.notify_url,
        created_at=now,
        payload={
            "refund_id": new_refund_id(now),
            "reason": request.reason,
            "outcome": _OUTCOMES[fault.kind] if fault else RefundState.SUCCESS,
            "returns": fault is not None and fault.kind is Kind.REFUND_RETURNED,
        },
    )
    await keep(sandbox, refund)
    resume(sandbox, refund)
    return refund


def resume(sandbox: Sandbox, refund: Refund) -> None:
    """Go on with what is not finished: settle it after a while, or deliver its notice."""
    if refund.state is not RefundState.PROCESSING:
        if refund.notified_at is None:
            notify(sandbox, refund)
        if refund.returns:
            sandbox.later.after(
                sandbox.pace.refund_s, lambda: settle(sandbox, refund, RefundState.ABNORMAL)
            )
        return
    outcome = RefundState(refund.payload["outcome"])
    if outcome is not RefundState.PROCESSING:
        sandbox.later.after(sandbox.pace.refund_s, lambda: settle(sandbox, refund, outcome))


async def settle(sandbox: Sandbox, refund: Refund, state: RefundState) -> Refund:
    """Say what became of a refund, also after it was said otherwise: a bank may send it back."""
    known = sandbox.orders.refund(*refund.key) or refund
    settled = replace(
        known,
        state=state,
        finished_at=sandbox.now(),
        notified_at=None,
        payload=told(known, state, sandbox.now())
        | {"notice_id": str(uuid.uuid4()), "outcome": state},
    )
    await keep(sandbox, settled)
    if state is not RefundState.PROCESSING:
        resume(sandbox, settled)
    return settled


def notify(sandbox: Sandbox, refund: Refund) -> None:
    """Deliver a settled refund's notice, where the merchant asked for one."""
    if not refund.notify_url:
        return
    order = sandbox.orders.order_of(refund)

    async def mark(at: datetime) -> None:
        known = sandbox.orders.refund(*refund.key)
        if known is not None and known.payload.get("notice_id") == refund.payload["notice_id"]:
            await sandbox.orders.put(replace(known, notified_at=at))

    delivery = Delivery(
        key=("refund", *refund.key, refund.payload["notice_id"]),
        build=lambda at: refund_notice(refund, order, seal(sandbox, "refund_notice"), at),
        is_accepted=is_taken,
        delays_s=sandbox.pace.wechat_notice_s,
        on_accepted=mark,
    )
    send(sandbox, "refund_notice", delivery)


def _order(sandbox: Sandbox, request: RefundRequest) -> Order:
    if request.out_trade_no is not None:
        order = sandbox.orders.get(Platform.WECHAT, sandbox.keys.mchid, request.out_trade_no)
    else:
        order = sandbox.orders.paid_as(Platform.WECHAT, request.transaction_id or "")
    if order is None or order.state is not OrderState.PAID or order.paid_at is None:
        raise RefusalError(404, "RESOURCE_NOT_EXISTS", "订单不存在")
    return order


def _refuse_too_soon(sandbox: Sandbox, order: Order) -> None:
    """A minute between two requests for one order, refused ones too (not those refused here)."""
    refunds = sandbox.orders.refunds_of(order)
    last = [refund.created_at for refund in refunds[-1:]]
    if order.key in sandbox.refused_at:
        last.append(sandbox.refused_at[order.key])
    if last and sandbox.now() - max(last) < sandbox.pace.refunds_apart:
        raise RefusalError(429, "FREQUENCY_LIMITED", "同一笔订单多次退款的请求需相隔1分钟")


def _refuse_over_limits(sandbox: Sandbox, order: Order, request: RefundRequest) -> None:
    given = sandbox.orders.refunded_fen(order)
    if request.amount.total != order.amount_fen:
        raise _invalid("订单金额与原订单不一致，请核实后再试")
    if order.paid_at is not None and sandbox.now() - order.paid_at > REFUNDABLE:
        raise _invalid("订单已经超过可退款的最大期限")
    if given == order.amount_fen:
        raise _invalid("订单已全额退款")
    if given + request.amount.refund > order.amount_fen:
        raise _invalid("累计退款金额大于支付金额")
    if len(sandbox.orders.refunds_of(order)) >= REFUNDS_OF_ORDER_MAX:
        raise _invalid("部分退款次数超过最大限制")
    if not sandbox.balances.has(Platform.WECHAT, request.amount.refund):
        raise RefusalError(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起")


def _invalid(message: str) -> RefusalError:
    return RefusalError(400, "INVALID_REQUEST", message)
