"""A bill as WeChat Pay writes it; written apart from the code under test."""

import gzip
import hashlib
from dataclasses import dataclass, field
from decimal import Decimal

HEADER = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,"
    "货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,"
    "商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
)
TOTALS = (
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
)
PAID = {
    "交易时间": "2026-05-23 10:00:00",
    "公众账号ID": "wx0000000000000001",
    "商户号": "1900000109",
    "特约商户号": "0",
    "设备号": "",
    "微信订单号": "4200001234202605230000000001",
    "商户订单号": "T20260523000001",
    "用户标识": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
    "交易类型": "JSAPI",
    "交易状态": "SUCCESS",
    "付款银行": "OTHERS",
    "货币种类": "CNY",
    "应结订单金额": "88.80",
    "代金券金额": "5.00",
    "微信退款单号": "0",
    "商户退款单号": "0",
    "退款金额": "0.00",
    "充值券退款金额": "0.00",
    "退款类型": "",
    "退款状态": "",
    "商品名称": "示范商场, A101 电费",
    "商户数据包": "",
    "手续费": "0.53000",
    "费率": "0.60%",
    "订单金额": "88.80",
    "申请退款金额": "0.00",
    "费率备注": "",
}
GIVEN_BACK = PAID | {
    "交易时间": "2026-05-23 23:59:59",
    "交易状态": "REFUND",
    "应结订单金额": "0.00",
    "代金券金额": "0.00",
    "微信退款单号": "50000000382026052300000000001",
    "商户退款单号": "R20260523000001",
    "退款金额": "28.00",
    "充值券退款金额": "1.00",
    "退款类型": "ORIGINAL",
    "退款状态": "SUCCESS",
    "手续费": "-0.17000",
    "订单金额": "0.00",
    "申请退款金额": "30.00",
}
REVOKED = GIVEN_BACK | {
    "交易类型": "MICROPAY",
    "交易状态": "REVOKED",
    "微信退款单号": "0",
    "商户退款单号": "0",
    "退款状态": "SUCCESS",
}
SUMMED = ("应结订单金额", "退款金额", "充值券退款金额", "手续费", "订单金额", "申请退款金额")


@dataclass
class Written:
    """A bill's text, its packed form and what the platform says of it."""

    rows: list[dict[str, str]] = field(default_factory=list)
    summary: dict[int, str] = field(default_factory=dict)  # cells of the last line, changed
    header: str = HEADER
    totals: str = TOTALS
    end: str = "\r\n"
    bom: bool = True

    @property
    def unpacked(self) -> bytes:
        """The text; its sums are right unless `summary` says otherwise."""
        last = [str(len(self.rows))]
        last += [str(sum(Decimal(row[name]) for row in self.rows)) for name in SUMMED]
        for index, text in self.summary.items():
            last[index] = text
        lines = [self.header, *map(_line, [list(row.values()) for row in self.rows])]
        lines += [self.totals, _line(last)]
        return "".join(line + self.end for line in lines).encode(
            "utf-8-sig" if self.bom else "utf-8"
        )

    @property
    def packed(self) -> bytes:
        """As it is downloaded."""
        return gzip.compress(self.unpacked, mtime=0)

    @property
    def sha1(self) -> str:
        """What the platform says it is."""
        return hashlib.sha1(self.unpacked).hexdigest()  # noqa: S324  the platform's own choice


def _line(cells: list[str]) -> str:
    return ",".join(f"`{cell}" for cell in cells)
