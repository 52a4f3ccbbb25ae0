"""Alipay's rules for giving money back, the platform's side: at once, unless told otherwise."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from payments.contract import Platform
from payments.sandbox.alipay_orders import Trades, is_taken, posting
from payments.sandbox.alipay_wire import (
    SHANGHAI,
    Refusal,
    biz_content,
    fen_from_yuan,
    options,
    shanghai,
    yuan,
)
from payments.sandbox.books import Order, OrderState, Refund, RefundState, told
from payments.sandbox.faults import Kind
from payments.sandbox.notifier import Delivery

REFUNDABLE = timedelta(days=365)
_OUT_REQUEST_NO = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_OUTCOMES = {
    Kind.REFUND_STUCK: RefundState.PROCESSING,
    Kind.REFUND_CLOSED: RefundState.CLOSED,
    Kind.REFUND_ABNORMAL: RefundState.CLOSED,  # Alipay gives back, or does not
    Kind.REFUND_RETURNED: RefundState.SUCCESS,
}
_BUYER = {"buyer_logon_id": "san***@sandbox.example", "buyer_user_id": "2088000000000002"}


class Refunds:
    """Refunds of trades, and what the gateway says of them."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._sandbox = trades.sandbox
        self._orders = trades.orders

    async def refund(self, params: Mapping[str, str]) -> dict[str, str]:
        """alipay.trade.refund."""
        order = self._trades.existing(params)
        asked = biz_content(params)
        fen = fen_from_yuan(asked.get("refund_amount", ""))
        number = asked.get("out_request_no") or order.out_trade_no
        if not fen or _OUT_REQUEST_NO.fullmatch(number) is None:
            raise Refusal("40004", "ACQ.INVALID_PARAMETER", "参数无效")
        if not asked.get("out_request_no") and fen != order.amount_fen:
            raise _failed("REFUND_AMT_NOT_EQUAL_TOTAL", "撤销或退款金额与订单金额不一致")
        known = self.find(order, number)
        if known is not None and known.amount_fen != fen:
            raise _failed("DISCORDANT_REPEAT_REQUEST", "请求信息不一致")
        changed = False
        if known is None or known.state is RefundState.CLOSED:  # what failed is tried again
            self._refuse_over_limits(order, fen)
            given = await self.accept(order, number, fen, asked.get("refund_reason", ""))
            changed = given.state is RefundState.SUCCESS
        total = yuan(self._trades.refunded_fen(order))
        return _BUYER | {
            "fund_change": "Y" if changed else "N",
            "out_trade_no": order.out_trade_no,
            "trade_no": order.payload["trade_no"],
            "refund_fee": total,
            "send_back_fee": total,
        }

    async def query(self, params: Mapping[str, str]) -> dict[str, str]:
        """alipay.trade.fastpay.refund.query: nothing is said of what was not given back."""
        order = self._trades.existing(params)
        number = biz_content(params).get("out_request_no", "")
        if not number:
            raise Refusal("40004", "ACQ.INVALID_PARAMETER", "参数无效")
        known = self.find(order, number)
        if known is None or known.state is not RefundState.SUCCESS or known.finished_at is None:
            return {}
        facts = {
            "trade_no": order.payload["trade_no"],
            "out_trade_no": order.out_trade_no,
            "out_request_no": number,
            "refund_reason": known.payload["reason"],
            "total_amount": yuan(order.amount_fen),
            "refund_amount": yuan(known.amount_fen),
            "refund_status": "REFUND_SUCCESS",
        }
        if "gmt_refund_pay" in options(params, "query_options"):
            facts["gmt_refund_pay"] = shanghai(known.finished_at)
        return facts

    def find(self, order: Order, out_request_no: str) -> Refund | None:
        """The trade's refund with this number."""
        return self._orders.refund(*order.key, out_request_no)

    async def accept(self, order: Order, number: str, fen: int, reason: str) -> Refund:
        """Give back at once; a fault of the table may say that it stays open, or fails."""
        now = self._sandbox.now()
        day = f"{now.astimezone(SHANGHAI):%Y%m%d}"
        fault = self._sandbox.faults.take(Platform.ALIPAY, "refund", _OUTCOMES)
        outcome = _OUTCOMES[fault.kind] if fault else RefundState.SUCCESS
        refund = Refund(
            platform=Platform.ALIPAY,
            merchant_id=order.merchant_id,
            out_trade_no=order.out_trade_no,
            out_refund_no=number,
            amount_fen=fen,
            notify_url=order.notify_url,
            created_at=now,
            payload={
                "reason": reason,
                "notify_id": f"{day}{secrets.randbelow(10**26):026d}",
                "outcome": outcome,
                "returns": fault is not None and fault.kind is Kind.REFUND_RETURNED,
            },
        )
        await self._orders.put(refund)
        return refund if outcome is RefundState.PROCESSING else await self.settle(refund, outcome)

    async def settle(self, refund: Refund, state: RefundState) -> Refund:
        """Say what became of a refund; only one that was given back is told in a notice."""
        known = self._orders.refund(*refund.key) or refund
        now = self._sandbox.now().replace(microsecond=0)
        told_at = None if state is RefundState.SUCCESS else now  # there is nothing to tell
        settled = replace(
            known,
            state=state,
            finished_at=now,
            notified_at=told_at,
            payload=told(known, state, now) | {"outcome": state},
        )
        await self._orders.put(settled)
        self.resume(settled)
        return settled

    def resume(self, refund: Refund) -> None:
        """Go on with what is not finished: the trade's notice, or the bank that sends it back."""
        outcome = RefundState(refund.payload.get("outcome", refund.state))
        if refund.state is RefundState.PROCESSING and outcome is not RefundState.PROCESSING:
            self._sandbox.later.after(0, lambda: self.settle(refund, outcome))  # killed meanwhile
        if refund.state is not RefundState.SUCCESS:
            return
        if refund.returns:
            self._sandbox.later.after(
                self._sandbox.pace.refund_s, lambda: self.settle(refund, RefundState.CLOSED)
            )
        if refund.notified_at is None:
            self._notify(refund)

    def _notify(self, refund: Refund) -> None:
        order = self._orders.order_of(refund)
        refunded_fen = self._trades.refunded_fen(order)  # as it stands now, whatever comes later

        async def on_accepted(now: datetime) -> None:
            known = self._orders.refund(*refund.key) or refund
            await self._orders.put(replace(known, notified_at=now))

        wire = self._trades.wire
        self._sandbox.notices.send(
            Platform.ALIPAY,
            "refund_notice",
            Delivery(
                key=("refund", *refund.key),
                build=lambda at: posting(
                    order, wire.refund_notice(order, refund, refunded_fen, at)
                ),
                is_accepted=is_taken,
                delays_s=self._sandbox.pace.alipay_notice_s,
                on_accepted=on_accepted,
            ),
        )

    def _refuse_over_limits(self, order: Order, fen: int) -> None:
        given = self._orders.refunded_fen(order)
        if order.state is not OrderState.PAID or given == order.amount_fen or not order.paid_at:
            raise _failed("TRADE_STATUS_ERROR", "交易状态不合法")
        if self._sandbox.now() - order.paid_at > REFUNDABLE:
            raise _failed("TRADE_HAS_FINISHED", "交易已经完结")
        if given + fen > order.amount_fen:
            raise _failed("REASON_TRADE_REFUND_FEE_ERR", "退款金额无效")
        if not self._sandbox.balances.has(Platform.ALIPAY, fen):
            raise _failed("SELLER_BALANCE_NOT_ENOUGH", "卖家余额不足")


def _failed(code: str, message: str) -> Refusal:
    return Refusal("40004", f"ACQ.{code}", message)
