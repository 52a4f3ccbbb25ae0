"""WeChat Pay's trade bill of a day: 27 columns, a backtick before each cell, a summary at the end.

Form: pay.weixin.qq.com/docs/merchant/products/bill-download/format-trade.html; the byte order mark
and the line ends are those of the one real file whose hash is public (wechatpay-go's tests).
"""

import gzip
import hashlib
from datetime import date
from typing import Any

from payments.contract import Platform
from payments.sandbox.bills import DAYS_MAX, Line, Statement, is_made, is_over, statement, yuan
from payments.sandbox.books import RefundState
from payments.sandbox.faults import Kind
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_orders import parameter_error
from payments.sandbox.wechat_wire import CHINA, PAYER, RefusalError

HEADER = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,"
    "付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,"
    "退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
)
SUMMARY = (
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
)
_STATES = {
    RefundState.PROCESSING: "PROCESSING",
    RefundState.SUCCESS: "SUCCESS",
    RefundState.CLOSED: "REFUNDCLOSE",
    RefundState.ABNORMAL: "CHANGE",
}


def ask(sandbox: Sandbox, day_text: str, bill_type: str, tar_type: str) -> dict[str, Any]:
    """The answer of GET /v3/bill/tradebill; the hash is of the file as it is unpacked."""
    day = _day(day_text)
    if bill_type != "ALL" or tar_type not in {"", "GZIP"}:
        raise parameter_error("账单类型或压缩类型错误")  # SUCCESS and REFUND have other columns
    now = sandbox.now()
    if day > now.astimezone(CHINA).date() or (now.astimezone(CHINA).date() - day).days > DAYS_MAX:
        raise parameter_error("账单日期不在可下载范围内")
    if not is_over(day, now) or not is_made(day, now):
        raise RefusalError(400, "STATEMENT_CREATING", "账单生成中")
    made = statement(sandbox, Platform.WECHAT, day)
    if not made.lines:
        raise RefusalError(400, "NO_STATEMENT_EXIST", "账单文件不存在")
    content = file_of(made)
    told = content + b" " if Kind.BILL_HASH in made.unsound else content
    sent = gzip.compress(content, mtime=0) if tar_type else content
    token = sandbox.files.put(sent, now)
    return {
        "hash_type": "SHA1",
        "hash_value": hashlib.sha1(told).hexdigest(),  # noqa: S324 - the platform's choice
        "download_url": f"{sandbox.public_url}/v3/billdownload/file?token={token}",
    }


def download(sandbox: Sandbox, token: str) -> bytes:
    """The file behind a download_url; raises RefusalError once its half minute is over."""
    content = sandbox.files.get(token, sandbox.now())
    if content is None:
        raise parameter_error("token已失效，请重新申请账单")
    return content


def file_of(made: Statement) -> bytes:
    """The bytes of a bill."""
    rows = [_row(line) for line in made.lines]
    sums = _sums(made)
    lines = [HEADER, *(_cells(row) for row in rows), SUMMARY, _cells(sums), ""]
    return "\r\n".join(lines).encode("utf-8-sig")


def _row(line: Line) -> list[str]:
    order, refund = line.order, line.refund
    paid, fee = (line.fen, line.fee_fen) if refund is None else (0, -line.fee_fen)
    returned = [
        *("0" if refund is None else refund.payload["refund_id"],),
        *("0" if refund is None else refund.out_refund_no,),
        *(yuan(0 if refund is None else line.fen), "0.00"),
        *("" if refund is None else "ORIGINAL",),
        *("" if refund is None else _STATES[refund.state],),
    ]
    return [
        f"{line.at.astimezone(CHINA):%Y-%m-%d %H:%M:%S}",
        *(order.payload["appid"], order.merchant_id, "0", ""),
        *(order.transaction_id or "", order.out_trade_no, order.payload.get("openid") or PAYER),
        *(order.payload["trade_type"], "SUCCESS" if refund is None else "REFUND"),
        *("OTHERS", "CNY", yuan(paid), "0.00"),
        *returned,
        *(_plain(order.payload["description"]), _plain(order.payload.get("attach", ""))),
        *(f"{yuan(fee)}000", "0.60%", yuan(paid)),
        *(yuan(0 if refund is None else line.fen), ""),
    ]


def _sums(made: Statement) -> list[str]:
    paid = sum(line.fen for line in made.payments)
    returned = sum(line.fen for line in made.refunds)
    fees = sum(line.fee_fen for line in made.payments) - sum(line.fee_fen for line in made.refunds)
    wrong = 1 if Kind.BILL_SUMMARY in made.unsound else 0
    return [
        *(str(len(made.lines)), yuan(paid), yuan(returned), "0.00", f"{yuan(fees)}000"),
        *(yuan(paid + wrong), yuan(returned)),
    ]


def _cells(values: list[str]) -> str:
    return ",".join(f"`{value}" for value in values)


def _plain(text: str) -> str:
    """Text that breaks no line and begins no cell; a comma stays, as in the real ones."""
    return " ".join(text.replace("`", "'").split())


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise parameter_error("账单日期格式错误") from None
    if day.isoformat() != text:
        raise parameter_error("账单日期格式错误")
    return day
