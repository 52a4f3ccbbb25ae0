"""What a change of a wallet is called, in the caller's language."""

from server.core.ledger.routing import FlowCode
from server.http.locale import Locale

# flow -> (zh, en); those that never touch a wallet have none
MOVES: dict[FlowCode, tuple[str, str]] = {
    FlowCode.TOP_UP_SETTLED: ("充值", "Top-up"),
    FlowCode.TOP_UP_REVERSED: ("充值冲正", "Top-up reversed"),
    FlowCode.DESK_PAYMENT: ("柜台缴费", "Paid at the desk"),
    FlowCode.DESK_PAYMENT_REVERSED: ("柜台缴费冲正", "Desk payment reversed"),
    FlowCode.ENERGY_CHARGED: ("电费", "Electricity"),
    FlowCode.ENERGY_CHARGE_REVERSED: ("电费冲正", "Electricity given back"),
    FlowCode.ENERGY_CORRECTED: ("电费更正", "Electricity corrected"),
    FlowCode.FIXED_CHARGE_CHARGED: ("固定费用", "Fixed charges"),
    FlowCode.FIXED_CHARGE_REVERSED: ("固定费用冲正", "Fixed charges given back"),
    FlowCode.FIXED_CHARGE_CORRECTED: ("固定费用更正", "Fixed charges corrected"),
    FlowCode.OPENING_BALANCE: ("期初余额", "Opening balance"),
    FlowCode.OPENING_BALANCE_REVERSED: ("期初余额冲正", "Opening balance reversed"),
    FlowCode.REFUND_STARTED: ("退款", "Refund"),
    FlowCode.REFUND_FAILED: ("退款未成功，已退回钱包", "Refund failed, back in the wallet"),
    FlowCode.ADJUSTMENT: ("调整", "Adjustment"),
    FlowCode.ADJUSTMENT_REVERSED: ("调整冲正", "Adjustment reversed"),
    FlowCode.SUSPENSE_CREDITED: ("待处理款项入账", "Payment assigned"),
    FlowCode.SUSPENSE_CREDIT_REVERSED: ("待处理款项入账冲正", "Assigned payment reversed"),
    FlowCode.MOVE_OUT_PAID: ("退租结清", "Paid out at move-out"),
    FlowCode.MOVE_OUT_RETURNED: ("退租结清冲正", "Move-out payment reversed"),
}


def move_title(flow: str, locale: Locale) -> str:
    """The words for a flow; an unknown one says itself."""
    if flow not in MOVES:
        return flow
    return MOVES[FlowCode(flow)][0 if locale is Locale.ZH else 1]
