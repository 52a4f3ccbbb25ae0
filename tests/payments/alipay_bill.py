"""Bills as Alipay makes them: GBK, tabs behind numbers, remarks around; apart from the sandbox."""

import io
import zipfile
from dataclasses import dataclass

ACCOUNT = "20880000000000010156"
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


@dataclass(frozen=True)
class Line:
    """A payment (fen > 0) or a refund (fen < 0)."""

    fen: int
    order: str = "T1"
    refund: str = ""
    trade: str = "2026052322001400001234567890"
    subject: str = "电费充值 A101"
    at: str = "2026-05-23 10:00:30"
    fee_fen: int = 0

    def text(self) -> str:
        """Its 25 cells."""
        kind = "交易" if self.fen > 0 else "退款"
        amount, fee = yuan(self.fen), yuan(self.fee_fen)
        return (
            f"{self.trade}\t,{self.order}\t,{kind}\t,{self.subject},2026-05-23 10:00:00,{self.at},"
            f"\t,\t,\t,\t,*三(138****00)\t,{amount},{amount},0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,"
            f"{self.refund}\t,{fee},0.00,"
        )


def yuan(fen: int) -> str:
    """Signed yuan text."""
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def details(lines: list[Line]) -> str:
    """The file of details with its own sums below."""
    came = [line.fen for line in lines if line.fen > 0]
    went = [line.fen for line in lines if line.fen < 0]
    return "\r\n".join(
        [
            "#支付宝业务明细查询",
            *_about(),
            "#-----------------------------------------业务明细列表----------------------------------",
            COLUMNS,
            *(line.text() for line in lines),
            "#-----------------------------------------业务明细列表结束------------------------------",
            f"#交易合计：{len(came)}笔，商家实收共{yuan(sum(came))}元，商家优惠共0.00元",
            f"#退款合计：{len(went)}笔，商家实收退款共{yuan(sum(went))}元，商家优惠退款共0.00元",
            "#导出时间：[2026年05月24日 05:46:49]",
            "",
        ]
    )


def summary(lines: list[Line], *, net: bool = True) -> str:
    """The file of sums: the one shop without a name, and all."""
    came = [line.fen for line in lines if line.fen > 0]
    went = [line.fen for line in lines if line.fen < 0]
    amount = yuan(sum(came) + (sum(went) if net else 0))
    fee = yuan(sum(line.fee_fen for line in lines if net or line.fen > 0))
    cells = f"{len(came)},{len(went)},{amount},{amount},0.00,0.00,0.00,{fee},0.00,{amount}"
    return "\r\n".join(
        [
            "#支付宝业务汇总查询",
            *_about(),
            "#-----------------------------------------业务汇总列表----------------------------------",
            SUMMARY_COLUMNS,
            f"\t,\t,{cells}",
            f"合计\t,\t,{cells}",
            "#----------------------------------------业务汇总列表结束-------------------------------",
            "#导出时间：[2026年05月24日 05:46:49]",
            "",
        ]
    )


def zipped(*texts: str | bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Files under GBK names, without the flag of UTF-8."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for index, text in enumerate(texts):
            kind = ("业务明细", "业务明细(汇总)", "其他")[min(index, 2)]
            name = f"{ACCOUNT}_20260523_{kind}{index}.csv".encode("gbk").decode("cp437")
            content = text if isinstance(text, bytes) else text.encode("gbk")
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return file.getvalue()


def bill_zip(lines: list[Line]) -> bytes:
    """The whole bill."""
    return zipped(details(lines), summary(lines))


def _about() -> list[str]:
    return [
        f"#账号：[{ACCOUNT}]",
        "#起始日期：[2026年05月23日 00:00:00]   终止日期：[2026年05月24日 00:00:00]",
    ]
