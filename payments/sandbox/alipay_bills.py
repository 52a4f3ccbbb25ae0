"""Alipay's business bill of a day: a zip of two GBK files with GBK names, details and a summary.

The call: opendocs.alipay.com/open/e81ed5f1. What it answers before ten and for a day without
business is the same: isp.bill_not_exist.
"""

import io
import zipfile
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from payments.contract import Platform
from payments.sandbox.alipay_orders import Trades
from payments.sandbox.alipay_wire import SHANGHAI, Refusal, biz_content
from payments.sandbox.bills import Line, Statement, is_made, is_over, statement, yuan
from payments.sandbox.books import RefundState
from payments.sandbox.faults import Kind

COLUMNS = (
    "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,"
    "对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,"
    "商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,"
    "退款批次号/请求号,服务费（元）,分润（元）,备注"
)
SUMMARY_COLUMNS = (
    "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,"
    "商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）"
)
_DASHES = "-----------------------------------------"
_BUYER = "测试(san***@sandbox.example)"


class Bills:
    """The bills of the merchant's trades."""

    def __init__(self, trades: Trades) -> None:
        self._sandbox = trades.sandbox
        self._account = f"{trades.seller_id}0156"

    async def ask(self, params: Mapping[str, str]) -> dict[str, str]:
        """alipay.data.dataservice.bill.downloadurl.query: a URL that lives for half a minute."""
        asked = biz_content(params)
        day, now = _day(asked.get("bill_date", "")), self._sandbox.now()
        if asked.get("bill_type") != "trade" or day is None or not is_over(day, now):
            raise Refusal("40004", "isv.invalid_arguments", "参数有误")
        made = None
        if is_made(day, now):
            made = _settled(statement(self._sandbox, Platform.ALIPAY, day))
        if made is None or not made.lines:
            raise Refusal("40004", "isp.bill_not_exist", "账单不存在")
        token = self._sandbox.files.put(self.pack(made), now)
        url = f"{self._sandbox.public_url}/downloadBillFile.resource"
        query = f"bizType=trade&fileType=csv.zip&bizDates={day:%Y%m%d}&fileId={token}"
        return {"bill_download_url": f"{url}?{query}"}

    def download(self, token: str) -> bytes | None:
        """The zip, unless its half minute is over."""
        return self._sandbox.files.get(token, self._sandbox.now())

    def pack(self, made: Statement) -> bytes:
        """The zip of a bill."""
        name = f"{self._account}_{made.day:%Y%m%d}_业务明细"
        content = bytearray(
            _zip({f"{name}.csv": self._details(made), f"{name}(汇总).csv": self._summary(made)})
        )
        if Kind.BILL_HASH in made.unsound:
            content[len(content) // 4] ^= 0xFF  # within the packed details
        return bytes(content)

    def _details(self, made: Statement) -> list[str]:
        paid = sum(line.fen for line in made.payments)
        returned = sum(line.fen for line in made.refunds)
        return [
            *self._head("明细", made.day),
            COLUMNS,
            *(_row(line) for line in made.lines),
            f"#{_DASHES}业务明细列表结束------------------------------------",
            f"#交易合计：{len(made.payments)}笔，商家实收共{yuan(paid)}元，商家优惠共0.00元",
            f"#退款合计：{len(made.refunds)}笔，商家实收退款共{yuan(-returned)}元，商家优惠退款共0.00元",
            _exported(made.day),
        ]

    def _summary(self, made: Statement) -> list[str]:
        wrong = 1 if Kind.BILL_SUMMARY in made.unsound else 0
        total = sum(_signed(line) for line in made.lines)
        fees = sum(_fee(line) for line in made.lines)
        counts = [str(len(made.payments)), str(len(made.refunds))]
        sums = [total + wrong, total, 0, 0, 0, fees, 0, total + fees]
        row = ["合计", "", *counts, *(yuan(fen) for fen in sums)]
        return [
            *self._head("汇总", made.day),
            SUMMARY_COLUMNS,
            ",".join(f"{cell}\t" for cell in row),
            f"#{_DASHES}业务汇总列表结束------------------------------------",
            _exported(made.day),
        ]

    def _head(self, what: str, day: date) -> list[str]:
        next_day = day + timedelta(days=1)
        return [
            f"#支付宝业务{what}查询",
            f"#账号：[{self._account}]",
            f"#起始日期：[{_midnight(day)}]   终止日期：[{_midnight(next_day)}]",
            f"#{_DASHES}业务{what}列表----------------------------------------",
        ]


def _settled(made: Statement) -> Statement:
    """Only what happened: Alipay has no refunds under way."""
    lines = [one for one in made.lines if not one.refund or one.refund.state is RefundState.SUCCESS]
    return Statement(made.day, lines, made.unsound)


def _row(line: Line) -> str:
    order, refund = line.order, line.refund
    amount = yuan(_signed(line))
    cells = [
        *(order.payload["trade_no"], order.out_trade_no, "退款" if refund else "交易"),
        *(_plain(order.payload["subject"]), _time(order.created_at), _time(line.at)),
        *("", "", "", "", _BUYER, amount, amount, "0.00", "0.00", "0.00", "0.00", "0.00", ""),
        *("0.00", "0.00", refund.out_refund_no if refund else "", yuan(_fee(line)), "0.00", ""),
    ]
    return ",".join(f"{cell}\t" for cell in cells)


def _signed(line: Line) -> int:
    return line.fen if line.refund is None else -line.fen


def _fee(line: Line) -> int:
    return -line.fee_fen if line.refund is None else line.fee_fen


def _zip(files: Mapping[str, list[str]]) -> bytes:
    """An archive with names in GBK, and no mark that says so.

    `zipfile` writes such a mark, so the names go in by places of the same length.
    """
    packed, names = io.BytesIO(), {}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, lines) in enumerate(files.items()):
            place = str(number) * len(name.encode("gbk"))
            names[place.encode()] = name.encode("gbk")
            entry = zipfile.ZipInfo(place)  # of 1980: the same bill is the same file
            text = "\r\n".join([*lines, ""])
            archive.writestr(entry, text.encode("gbk", "replace"), zipfile.ZIP_DEFLATED)
    content = packed.getvalue()
    for place_bytes, name_bytes in names.items():
        content = content.replace(place_bytes, name_bytes)
    return content


def _exported(day: date) -> str:
    at = datetime.combine(day + timedelta(days=1), time(2), SHANGHAI)
    return f"#导出时间：[{at:%Y年%m月%d日 %H:%M:%S}]"


def _midnight(day: date) -> str:
    return f"{day:%Y年%m月%d日} 00:00:00"


def _time(at: datetime) -> str:
    return f"{at.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    """Text that breaks no line and no cell."""
    return " ".join(text.replace(",", "，").split())


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None
