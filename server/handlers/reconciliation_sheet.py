"""Reconciled days as a workbook: days, differences, and every line, each cell of its kind.

Written to a file, line by line: a month of a large mall does not fit into memory. Text stays text,
whatever it begins with; money is a number of yuan.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xlsxwriter

from server.core.reconciliation.compare import Sums
from server.core.reconciliation.days import CHINA
from server.handlers.messages import say
from server.http.locale import Locale
from server.services.reconciliation_days import Merchant
from server.services.reconciliation_lines import LineView, pages_of_lines
from server.services.reconciliation_views import DayView, DifferenceView, days_of

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TEXT_MAX = 32_767  # what a cell holds

Cell = str | int | Decimal | date | datetime | None
DAYS = (
    *("日期", "平台", "商户号", "状态", "账单收款笔数", "账单收款（元）", "账单退款笔数"),
    *("账单退款（元）", "我方收款笔数", "我方收款（元）", "我方退款笔数", "我方退款（元）"),
    *("净额差（元）", "未了差异"),
)
DIFFERENCES = (
    *("日期", "平台", "商户号", "商场", "商铺", "差异", "说明", "商户订单号", "交易号/退款单号"),
    *(
        "账单金额（元）",
        "我方金额（元）",
        "账单状态",
        "我方状态",
        "平台查询",
        "处理结果",
        "待处理事项",
    ),
)
LINES = (
    *("账单日", "平台", "商户号", "时间（北京时间）", "类型", "商户订单号", "平台交易号"),
    *("退款单号", "金额（元）", "手续费（元）", "账单状态", "是否相符", "我方编号", "商场", "商铺"),
    "充值单号",
)
WAYS = {"payment": "收款", "refund": "退款"}
_ONE_AT_A_TIME = asyncio.Semaphore(1)  # it keeps a thread busy for seconds
YUAN = {"num_format": "#,##0.00"}


@asynccontextmanager
async def workbook(
    known: Sequence[Merchant], since: date, until: date, site_id: int | None
) -> AsyncIterator[Path]:
    """The workbook of these merchants' days, as one mall (None: all) sees them; gone afterwards."""
    with TemporaryDirectory(prefix="mallwatt-") as folder:
        path = Path(folder, "reconciliation.xlsx")
        options = {"constant_memory": True, "tmpdir": folder, "default_date_format": "yyyy-mm-dd"}
        async with _ONE_AT_A_TIME:
            book = _Book(xlsxwriter.Workbook(path, options))
            try:
                await _fill(book, known, (since, until), site_id)
                await asyncio.to_thread(book.close)
            except BaseException:  # also cancelled: its files would stay open
                await asyncio.to_thread(book.give_up)
                raise
        yield path


async def _fill(
    book: "_Book", known: Sequence[Merchant], days: tuple[date, date], site_id: int | None
) -> None:
    found = [(one, await days_of(one, *days, site_id)) for one in known]
    book.begin("汇总", DAYS)
    for merchant, seen in found:
        book.add([_day_cells(merchant, one) for one in seen.values()])
    book.begin("差异", DIFFERENCES)
    for merchant, seen in found:
        for day in seen.values():
            cells = [_difference_cells(merchant, day.day, one) for one in day.differences]
            await asyncio.to_thread(book.add, cells)
    book.begin("明细", LINES)
    for merchant in known:
        async for page in pages_of_lines(merchant, *days, site_id):
            await asyncio.to_thread(book.add, [_line_cells(merchant, one) for one in page])


class _Book:
    """A workbook whose sheets are written one after the other, each row once."""

    def __init__(self, book: Any) -> None:
        self._book = book
        self._yuan = book.add_format(YUAN)
        self._moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._head = book.add_format({"bold": True})
        self._sheet: Any = None
        self._row = 0

    def begin(self, name: str, headers: Sequence[str]) -> None:
        self._sheet = self._book.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        for column, header in enumerate(headers):
            self._sheet.set_column(column, column, max(10, 2 * len(header) + 2))
            self._sheet.write_string(0, column, header, self._head)
        self._row = 0

    def add(self, lines: Sequence[Sequence[Cell]]) -> None:
        for line in lines:
            self._row += 1
            for column, cell in enumerate(line):
                self._write(column, cell)

    def _write(self, column: int, cell: Cell) -> None:
        place = (self._row, column)
        if isinstance(cell, str):  # never `write`: it would make a formula of "=1+1"
            self._sheet.write_string(*place, cell[:TEXT_MAX])
        elif isinstance(cell, datetime):
            local = cell.astimezone(CHINA).replace(tzinfo=None)  # a sheet knows no zones
            self._sheet.write_datetime(*place, local, self._moment)
        elif isinstance(cell, date):
            self._sheet.write_datetime(*place, cell)
        elif isinstance(cell, Decimal):
            self._sheet.write_number(*place, cell, self._yuan)
        elif cell is not None:
            self._sheet.write_number(*place, cell)

    def close(self) -> None:
        self._book.close()

    def give_up(self) -> None:
        """Close the files beneath; nobody reads the half of a workbook."""
        with suppress(OSError, xlsxwriter.exceptions.XlsxWriterException):
            self._book.close()


def _yuan(fen: int | None) -> Decimal | None:
    return None if fen is None else Decimal(fen).scaleb(-2)


def _names(merchant: Merchant) -> tuple[str, str]:
    return _say(f"platform.{merchant.platform.value}"), merchant.merchant_id


def _say(key: str) -> str:
    return say(Locale.ZH, key)


def _day_cells(merchant: Merchant, one: DayView) -> Sequence[Cell]:
    apart = None
    if one.bill is not None and one.ours is not None:
        apart = one.bill.net_fen - one.ours.net_fen
    return (
        *(one.day, *_names(merchant), _say(f"reconciliation.{one.state}")),
        *_sum_cells(one.bill),
        *_sum_cells(one.ours),
        *(_yuan(apart), one.open_count),
    )


def _sum_cells(sums: Sums | None) -> Sequence[Cell]:
    if sums is None:
        return (None,) * 4
    return (sums.payments, _yuan(sums.payments_fen), sums.refunds, _yuan(sums.refunds_fen))


def _difference_cells(merchant: Merchant, day: date, one: DifferenceView) -> Sequence[Cell]:
    return (
        *(day, *_names(merchant), one.site_code, one.shop_code),
        _say(f"reconciliation.kind_{one.kind.value}"),
        _say(f"reconciliation.finding_{one.finding.value}"),
        *(one.out_trade_no, one.number, _yuan(one.bill_fen), _yuan(one.our_fen)),
        *(one.bill_state, one.our_state, _say(f"reconciliation.answer_{one.answer}")),
        *(_say(f"reconciliation.outcome_{one.outcome}"), one.case_id),
    )


def _line_cells(merchant: Merchant, one: LineView) -> Sequence[Cell]:
    return (
        *(one.day, *_names(merchant), one.at, WAYS[one.way], one.out_trade_no, one.transaction_id),
        one.number if one.way == "refund" else None,
        *(_yuan(one.amount_fen), _yuan(one.fee_fen), one.status),
        "不符" if one.our_number is None else "相符",
        *(one.our_number, one.site_code, one.shop_code, one.top_up_no),
    )
