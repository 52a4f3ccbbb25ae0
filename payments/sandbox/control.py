"""What a test or script tells the platforms, beside what payers do: in process, or by HTTP."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import empty, raw

from payments.contract import Platform
from payments.sandbox import wechat_orders, wechat_refunds
from payments.sandbox.alipay_orders import Trades
from payments.sandbox.alipay_refunds import Refunds
from payments.sandbox.books import Order, OrderState, Refund, RefundState
from payments.sandbox.faults import ANY, FAULTS_MAX, BadFaultError, Fault, Kind
from payments.sandbox.signing import BadSignerError
from payments.sandbox.state import Sandbox
from payments.sandbox.strangers import strange_order
from payments.sandbox.wechat_wire import RefusalError


class ControlError(Exception):
    """What was told cannot be done; says why."""


class Control:
    """The platforms' inside, for a test in the same process."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._trades = Trades(sandbox)
        self._refunds = Refunds(self._trades)

    async def pay(self, platform: Platform, out_trade_no: str, fen: int | None = None) -> Order:
        """The payer pays (`fen`: another amount); raises ControlError where that cannot be."""
        order = self._order(platform, out_trade_no)
        if platform is Platform.ALIPAY:
            paid = await self._trades.pay(order, fen)
            if paid.state is not OrderState.PAID:
                raise ControlError(f"{out_trade_no} is closed")
            return paid
        try:
            return await wechat_orders.pay(self._sandbox, order, fen)
        except RefusalError as error:
            raise ControlError(f"{out_trade_no}: {error}") from None

    async def stranger(
        self, platform: Platform, out_trade_no: str, fen: int, notify_url: str
    ) -> Order:
        """Somebody pays an order that the merchant never made, and the merchant is told."""
        if self._sandbox.orders.find(platform, out_trade_no) is not None:
            raise ControlError(f"{out_trade_no} is no stranger")
        order = strange_order(self._sandbox, platform, out_trade_no, fen, notify_url)
        if platform is Platform.ALIPAY:
            return await self._trades.land(order)
        return await wechat_orders.land(self._sandbox, order)

    async def refund_outside(self, platform: Platform, out_trade_no: str, fen: int) -> Refund:
        """Give back at the platform what the merchant's program did not ask for."""
        order = self._order(platform, out_trade_no)
        left = order.amount_fen - self._sandbox.orders.refunded_fen(order)
        if order.state is not OrderState.PAID or not 1 <= fen <= left:
            raise ControlError(f"{fen} fen cannot be given back of {out_trade_no}")
        count = len(self._sandbox.orders.refunds_of(order)) + 1
        number = f"OUT{count}{out_trade_no}"
        if platform is Platform.ALIPAY:
            return await self._refunds.accept(order, number, fen, "商户后台退款")
        return await wechat_refunds.accept(
            self._sandbox, order, wechat_refunds.own_request(order, number, fen)
        )

    def release(self, platform: Platform) -> None:
        """Send the notices that were held back to come after others."""
        self._sandbox.notices.release(platform)

    async def settle(self, platform: Platform, number: str, state: RefundState) -> Refund:
        """Say what became of the refund with this number, also after it was said."""
        refund = self._sandbox.orders.refund_numbered(platform, number)
        if refund is None:
            raise ControlError(f"no refund {number}")
        if platform is Platform.ALIPAY:
            return await self._refunds.settle(refund, state)
        return await wechat_refunds.settle(self._sandbox, refund, state)

    def balance(self, platform: Platform, fen: int | None) -> None:
        """What the merchant has to give back from; None: no end of it."""
        self._sandbox.balances.tell(platform, fen)

    def sign_with(self, platform: Platform, *names: str, at: datetime | None = None) -> None:
        """From `at` (now) on sign by "public_key", "cert1" or "cert2"; by several in turn."""
        try:
            self._sandbox.signing.change(platform, names, at or self._sandbox.now())
        except BadSignerError as error:
            raise ControlError(str(error)) from None

    def _order(self, platform: Platform, out_trade_no: str) -> Order:
        order = self._sandbox.orders.find(platform, out_trade_no)
        if order is None:
            raise ControlError(f"no order {out_trade_no}")
        return order


class _Fault(msgspec.Struct, forbid_unknown_fields=True):
    platform: Platform
    kind: Kind
    call: str = ANY
    times: int = 1
    seconds: float = 0.0


class _Faults(msgspec.Struct, forbid_unknown_fields=True):
    faults: Annotated[list[_Fault], msgspec.Meta(max_length=FAULTS_MAX)]


class _Balance(msgspec.Struct, forbid_unknown_fields=True):
    platform: Platform
    fen: Annotated[int, msgspec.Meta(ge=0, le=10**15)] | None


class _Signing(msgspec.Struct, forbid_unknown_fields=True):
    platform: Platform
    names: Annotated[list[str], msgspec.Meta(max_length=10)]
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _Stranger(msgspec.Struct, forbid_unknown_fields=True):
    out_trade_no: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{6,32}$")]
    fen: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    notify_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^?#\s]+$", max_length=255)]


class _Outside(msgspec.Struct, forbid_unknown_fields=True):
    out_trade_no: str
    fen: int


class _Settle(msgspec.Struct, forbid_unknown_fields=True):
    out_refund_no: str
    state: RefundState


def blueprint(sandbox: Sandbox) -> Blueprint:
    """The routes under /control that no single platform owns."""
    routes = Blueprint("sandbox_control", url_prefix="/control")
    control = Control(sandbox)
    _add_faults(routes, sandbox)

    @routes.post("/balance")
    async def balance(request: Request) -> HTTPResponse:
        told = _read(request.body, _Balance)
        control.balance(told.platform, told.fen)
        return empty()

    @routes.post("/signing")
    async def signing(request: Request) -> HTTPResponse:
        told = _read(request.body, _Signing)
        control.sign_with(told.platform, *told.names, at=told.at)
        return empty()

    _add_events(routes, control)

    async def refuse(_: Request, error: ControlError) -> HTTPResponse:
        return _json({"error": str(error)}, status=400)

    routes.exception(ControlError)(refuse)
    return routes


def _add_events(routes: Blueprint, control: Control) -> None:
    @routes.post("/<name:wechat|alipay>/settle")
    async def settle(request: Request, name: str) -> HTTPResponse:
        told = _read(request.body, _Settle)
        refund = await control.settle(Platform(name), told.out_refund_no, told.state)
        return _json({"out_refund_no": refund.out_refund_no, "state": refund.state})

    @routes.post("/<name:wechat|alipay>/stranger")
    async def stranger(request: Request, name: str) -> HTTPResponse:
        told = _read(request.body, _Stranger)
        facts = told.out_trade_no, told.fen, told.notify_url
        order = await control.stranger(Platform(name), *facts)
        return _json({"transaction_id": order.transaction_id})

    @routes.post("/<name:wechat|alipay>/refund-outside")
    async def refund_outside(request: Request, name: str) -> HTTPResponse:
        told = _read(request.body, _Outside)
        refund = await control.refund_outside(Platform(name), told.out_trade_no, told.fen)
        return _json({"out_refund_no": refund.out_refund_no})

    @routes.post("/<name:wechat|alipay>/release")
    async def release(_: Request, name: str) -> HTTPResponse:
        control.release(Platform(name))
        return empty()


def _add_faults(routes: Blueprint, sandbox: Sandbox) -> None:
    @routes.post("/faults")
    async def add(request: Request) -> HTTPResponse:
        rows = _read(request.body, _Faults).faults
        try:
            sandbox.faults.add(
                *(Fault(row.platform, row.kind, row.call, row.times, row.seconds) for row in rows)
            )
        except BadFaultError as error:
            raise ControlError(str(error)) from None
        return empty()

    @routes.get("/faults")
    async def show(_: Request) -> HTTPResponse:
        return _json({"faults": sandbox.faults.rows()})

    @routes.delete("/faults")
    async def clear(_: Request) -> HTTPResponse:
        sandbox.faults.clear()
        return empty()


def _read(body: bytes, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ControlError(str(error)) from None


def _json(content: object, status: int = 200) -> HTTPResponse:
    return raw(msgspec.json.encode(content), status=status, content_type="application/json")
