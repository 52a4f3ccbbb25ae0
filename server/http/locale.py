"""zh or en: the caller's language, and the public words of each problem code."""

from enum import StrEnum

from sanic import Request


class Locale(StrEnum):
    """A language that MallWatt speaks."""

    ZH = "zh"
    EN = "en"


# code -> (zh, en); the detail of an error, where it may be shown, follows after a colon
PROBLEMS: dict[str, tuple[str, str]] = {
    "internal": ("服务器内部错误，请稍后再试", "Something went wrong on our side; try again later"),
    "invalid_input": ("输入有误", "Invalid input"),
    "invalid_body": ("请求内容格式有误", "The request body is not valid"),
    "body_too_large": ("请求内容过大", "The request is too large"),
    "bad_request": ("请求有误", "Bad request"),
    "request_timeout": ("请求超时", "The request took too long"),
    "method_not_allowed": ("不支持的请求方法", "Method not allowed"),
    "not_found": ("未找到", "Not found"),
    "unauthenticated": ("请先登录", "Please log in"),
    "forbidden": ("无权操作", "You are not allowed to do this"),
    "conflict": ("当前状态不允许此操作", "Not possible in the present state"),
    "site_needed": ("编号在多个商场中存在，请指定商场", "Several sites have this code; name one"),
    "too_many_requests": ("操作过于频繁，请稍后再试", "Too many tries; wait a little"),
    "wrong_binding_code": ("绑定码不正确", "The binding code is wrong"),
    "already_bound": ("已绑定", "Already bound"),
    "nothing_to_confirm": ("无需确认复电", "The supply does not wait for your word"),
    "hoarding_limit": ("超过钱包余额上限", "This would exceed what the wallet may hold"),
    "method_unavailable": ("该支付方式不可用", "This payment method is not available"),
    "top_up_over": ("该订单已支付、关闭或过期", "This top-up is paid, closed or expired"),
    "too_many_attempts": ("更换支付方式次数过多，请重新下单", "Too many changes; order a new one"),
    "idempotency_mismatch": (
        "相同的幂等键对应不同的内容",
        "The same Idempotency-Key came with another input",
    ),
    "idempotency_key_needed": ("缺少 Idempotency-Key", "An Idempotency-Key header is needed"),
    "wrong_login": ("用户名或密码不正确", "Wrong name or password"),
    "wrong_code": ("登录凭证无效", "The login code is not valid"),
    "unavailable": ("服务暂不可用，请稍后再试", "Not available right now; try again"),
    "payment_platform": ("支付平台暂不可用", "The payment platform did not accept this"),
    "no_relay": ("该商铺没有可控制的电表", "This shop has no meter with a relay"),
    "receipt_used": ("收据号已用于另一笔收款", "This receipt number was used for another payment"),
    "already_reversed": ("该笔收款已冲正", "This payment was taken back already"),
    "reason_needed": ("请填写原因", "A reason is needed"),
    "tenancy_ended": ("该租期已结束", "This tenancy has ended"),
    "vacant": ("该商铺无租户", "Nobody lives in this shop"),
    "own_approval": ("不能审批自己提交的申请", "Who asked may not decide"),
    "approval_over": ("该申请已处理或已过期", "This was decided already, or has expired"),
    "no_emergency_credit": ("该商铺无应急额度", "This shop has no emergency credit"),
    "emergency_credit_running": (
        "应急额度已启用，充值补足欠费后可再次申请",
        "The emergency credit is in use already; it can be had again once a top-up covers the debt",
    ),
    "emergency_credit_not_needed": ("余额充足，暂不可申请应急额度", "The balance is not low yet"),
    "other_day_first": ("请按日期顺序结算", "Days close in their order"),
    "day_not_over": ("该日尚未结束", "This day is not over"),
    "day_is_complete": ("该日数据完整，将自动结算", "This day is complete and closes by itself"),
    "in_future": ("时间不能晚于现在", "This time is yet to come"),
    "too_long_ago": ("时间过早", "This time is too long ago"),
    "before_move_in": ("时间早于入驻时间", "The tenancy had not begun then"),
    "days_charged": ("该日费用已结算，不能改动", "Days from then on are charged already"),
    "other_tenancy": ("租期已变化，请重新核对", "Another tenancy lives there"),
    "occupied": ("该时间商铺已有租户", "Somebody lives or lived there then"),
    "no_tariff_version": ("该日没有有效的电价", "No tariff is valid on that day"),
    "not_moved_out": ("该租期尚未结束", "This tenancy has not ended"),
    "move_out_not_settled": ("尚未结清，暂不能付款", "Not everything is charged yet"),
    "more_than_left": ("金额与钱包余额不符", "The wallet holds or owes another amount"),
    "more_than_owed": ("金额超过欠费", "That is more than is owed"),
    "above_available": ("超过可退金额", "More than can be given back"),
    "above_payment": ("超过该笔支付的剩余金额", "More than is left of this payment"),
    "case_decided": ("该事项已处理", "This case was decided already"),
    "no_such_payment": ("不是本商场的支付记录", "No payment of ours"),
    "not_for_this_case": ("该事项不能这样处理", "This case cannot be decided so"),
    "reference_used": ("凭证号已用于另一笔退款", "This reference paid out another refund"),
    "not_to_pay": ("这笔退款无需线下付款", "This part is not to be paid out by hand"),
    "shop_needed": ("请指定有租户的商铺", "A shop with a tenant is needed, and only then"),
    "facts_changed": ("情况已变化，请重新确认", "The facts have changed; look again"),
}


def locale_of(request: Request) -> Locale:
    """`?lang=`, then the cookie `lang`, then Accept-Language; Chinese when nothing says other."""
    for wish in (request.args.get("lang"), request.cookies.get("lang")):
        if wish in (Locale.ZH, Locale.EN):
            return Locale(wish)
    accepted = request.headers.get("accept-language", "")
    for item in accepted.split(",")[:10]:
        tag = item.partition(";")[0].strip().lower()
        if tag.startswith("zh"):
            return Locale.ZH
        if tag.startswith("en"):
            return Locale.EN
    return Locale.ZH


def problem_text(code: str, detail: str, locale: Locale) -> str:
    """The words for a code, with the error's own detail where there is one for the public."""
    pair = PROBLEMS.get(code)
    words = pair[0 if locale is Locale.ZH else 1] if pair else code
    return f"{words}: {detail}" if detail and detail != code else words
