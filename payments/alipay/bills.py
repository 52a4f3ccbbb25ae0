"""A day's bill at Alipay: a zip of GBK files, one of details and one of sums over them.

The call: opendocs.alipay.com/open/e81ed5f1. Files are told apart by their columns, and
columns by their names: both have come under several names and in several orders.
"""

import csv
import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from payments.alipay.formats import SHANGHAI, fen_from_yuan, moment_from_shanghai
from payments.alipay.sdk import Sdk, asked
from payments.contract import (
    Bill,
    BillEntry,
    BillEntryKind,
    BillNotReadyError,
    BillUnsoundError,
    Platform,
    RefundStatus,
)

BILL_URL = "alipay.data.dataservice.bill.downloadurl.query"
UNPACKED_BYTES_MAX = 64 * 1024 * 1024
FILES_MAX = 10
REMARKS_MAX = 100
# Made by nine, says Alipay, "later in special cases": until then "no such bill" means "not yet".
MADE_BY = time(10, 0)

_DETAILS_COLUMN = "支付宝交易号"
_SUMMARY_COLUMN = "交易订单总笔数"
_SUBJECT = "商品名称"
_KINDS = {"交易": BillEntryKind.PAYMENT, "退款": BillEntryKind.REFUND}
_TRADE_NO = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"#账号：\[([0-9]+)\]")
_FIRST_DAY = re.compile(r"#起始日期：\[([0-9]{4})年([0-9]{2})月([0-9]{2})日")
_TRAILER = re.compile(
    r"#(交易|退款)合计：([0-9]+)笔，(商家实收|商家实收退款|交易金额|交易退款金额)共(-?[0-9.]+)元"
)
_UNZIPPABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError,
    KeyError, IndexError,
)  # fmt: skip
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


@dataclass(slots=True)
class _Table:
    """A file of a bill, read a line at a time: what stands behind `#` is known after its rows."""

    what: str
    content: bytes
    remarks: list[str] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's line and cells; raises BillUnsoundError."""
        for line, raw in enumerate(io.BytesIO(self.content), start=1):
            place = f"{self.what}, line {line}"
            try:
                written = raw.decode("gbk").strip()
            except UnicodeDecodeError as error:
                raise BillUnsoundError(f"{place}: not GBK") from error
            if written.startswith("#"):
                self.remarks.append(written)
                if len(self.remarks) > REMARKS_MAX:
                    raise BillUnsoundError(f"{place}: nothing but remarks")
            elif written and not self.columns:
                self._name_columns(written, place)
            elif written:
                yield line, _fitted(_cells(written), self.columns, place)

    def _name_columns(self, written: str, place: str) -> None:
        names = [_bare(name) for name in _cells(written)]
        self.columns = {name: at for at, name in enumerate(names)}
        if len(self.columns) != len(names):
            raise BillUnsoundError(f"{place}: a column twice")

    def cell(self, row: list[str], column: str) -> str:
        return row[self.columns[column]] if column in self.columns else ""


@dataclass(slots=True)
class _Sums:
    """What the details come to, of one kind: sizes, but a fee as it is written (-0.53)."""

    count: int = 0
    amount_fen: int = 0
    received_fen: int = 0
    fee_fen: int = 0


def bill_params(sdk: Sdk, day: date) -> dict[str, str]:
    """The parameters of a question for a bill's URL, over https."""
    return asked(sdk.bill_url, bill_type="trade", bill_date=day.isoformat(), secure="true")


def check_over(day: date, now: datetime) -> None:
    """Raise BillNotReadyError for a day that has not ended in China."""
    if day >= now.astimezone(SHANGHAI).date():
        raise BillNotReadyError(f"{day} has not ended")


def absent(day: date, merchant_id: str, now: datetime) -> Bill:
    """What "no such bill" means at `now`: nobody paid, or BillNotReadyError."""
    made_by = datetime.combine(day + timedelta(days=1), MADE_BY, SHANGHAI)
    if now < made_by:
        raise BillNotReadyError(f"no bill of {day} yet")
    return empty(day, merchant_id)


def empty(day: date, merchant_id: str) -> Bill:
    """The bill of a day without business."""
    return Bill(Platform.ALIPAY, merchant_id, day, (), "")


def read_bill(content: bytes, day: date, merchant_id: str) -> Bill:
    """The bill in a zip, checked against its own sums; raises BillUnsoundError. Not on the loop."""
    files = _unpacked(content)
    details = _found(files, "details", _DETAILS_COLUMN)
    summary = _found(files, "summary", _SUMMARY_COLUMN)
    sums = {kind: _Sums() for kind in BillEntryKind}
    entries = tuple(_entry(details, line, row, sums) for line, row in details.rows())
    _check_trailers(details, sums)
    _check_summary(summary, sums)
    for table in (details, summary):
        _check_about(table, day, merchant_id)
    hashed = hashlib.sha256(details.content)
    hashed.update(summary.content)
    return Bill(Platform.ALIPAY, merchant_id, day, entries, hashed.hexdigest())


def _unpacked(content: bytes) -> list[bytes]:
    """The files of a zip, within bounds."""
    files, left = [], UNPACKED_BYTES_MAX
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = [one for one in archive.infolist() if not one.is_dir()]
            if len(listed) > FILES_MAX:
                raise BillUnsoundError(f"zip: more than {FILES_MAX} files")
            for one in listed:
                if one.compress_type not in _METHODS:
                    raise BillUnsoundError("zip: packed in an unknown way")
                with archive.open(one) as file:
                    files.append(file.read(left + 1))
                left -= len(files[-1])
                if left < 0:
                    raise BillUnsoundError(f"zip: more than {UNPACKED_BYTES_MAX} bytes unpacked")
    except _UNZIPPABLE as error:
        raise BillUnsoundError(f"zip: {type(error).__name__}") from error
    return files


def _found(files: Sequence[bytes], what: str, column: str) -> _Table:
    """The one file that has this column."""
    having = [content for content in files if column.encode("gbk") in _header(content)]
    if len(having) != 1:
        raise BillUnsoundError(f"{what}: {len(having)} files, not one")
    return _Table(what, having[0])


def _header(content: bytes) -> bytes:
    """The line that names the columns: the first that is no remark."""
    lines = (line.strip() for line in io.BytesIO(content))
    return next((line for line in lines if line and not line.startswith(b"#")), b"")


def _cells(written: str) -> list[str]:
    """The cells of a line; each may end with a tab."""
    return [cell.strip() for cell in written.split(",")]


def _bare(name: str) -> str:
    """A column's name without its unit."""
    return name.replace("（元）", "").replace("(元)", "")


def _fitted(cells: list[str], columns: Mapping[str, int], place: str) -> list[str]:
    """As many cells as columns; a subject may have commas, with quotes around it or without."""
    if len(cells) > len(columns) and any(cell.startswith('"') for cell in cells):
        cells = [cell.strip() for cell in next(csv.reader([",".join(cells)]))]
    more = len(cells) - len(columns)
    at = columns.get(_SUBJECT)
    if more > 0 and at is not None:
        cells[at : at + more + 1] = [",".join(cells[at : at + more + 1])]
    if len(cells) != len(columns):
        raise BillUnsoundError(f"{place}: {len(cells)} cells for {len(columns)} columns")
    return cells


def _check_about(table: _Table, day: date, merchant_id: str) -> None:
    """Of this merchant (its account is its id with four digits more) and this day."""
    remarks = "\n".join(table.remarks)
    account, first = _ACCOUNT.search(remarks), _FIRST_DAY.search(remarks)
    if account is None or not account[1].startswith(merchant_id):
        raise BillUnsoundError(f"{table.what}: of another account")
    if first is None or "-".join(first.groups()) != day.isoformat():
        raise BillUnsoundError(f"{table.what}: of another day")


def _entry(
    table: _Table, line: int, row: list[str], sums: Mapping[BillEntryKind, _Sums]
) -> BillEntry:
    """A line of the details, added to the sums."""
    place = f"{table.what}, line {line}"
    kind = _KINDS.get(table.cell(row, "业务类型"))
    if kind is None:
        raise BillUnsoundError(f"{place}: neither payment nor refund")
    trade_no = table.cell(row, _DETAILS_COLUMN)
    if _TRADE_NO.fullmatch(trade_no) is None:
        raise BillUnsoundError(f"{place}: no trade number")
    try:
        amount_fen = _size_fen(table.cell(row, "订单金额"))
        received_fen = _size_fen(table.cell(row, "商家实收"))
        fee_fen = _signed_fen(table.cell(row, "服务费") or "0")
        at = moment_from_shanghai(table.cell(row, "完成时间"))
    except ValueError as error:
        raise BillUnsoundError(f"{place}: {error}") from error
    if amount_fen == 0:
        raise BillUnsoundError(f"{place}: an amount of nothing")
    total = sums[kind]
    total.count += 1
    total.amount_fen += amount_fen
    total.received_fen += received_fen
    total.fee_fen += fee_fen
    refund = kind is BillEntryKind.REFUND
    return BillEntry(
        kind=kind,
        out_trade_no=table.cell(row, "商户订单号"),
        transaction_id=trade_no,
        amount_fen=amount_fen,
        at=at,
        fee_fen=-abs(fee_fen) if refund else abs(fee_fen),
        out_refund_no=(table.cell(row, "退款批次号/请求号") or None) if refund else None,
        status=RefundStatus.SUCCEEDED if refund else None,
    )


def _size_fen(text: str) -> int:
    """An amount without its sign: which way it went, the line's kind says."""
    return fen_from_yuan(text.removeprefix("-"))


def _signed_fen(text: str) -> int:
    return -_size_fen(text) if text.startswith("-") else _size_fen(text)


def _check_trailers(table: _Table, sums: Mapping[BillEntryKind, _Sums]) -> None:
    """The counts and sums below the details."""
    found = [match for remark in table.remarks if (match := _TRAILER.match(remark))]
    if sorted(match[1] for match in found) != sorted(_KINDS):
        raise BillUnsoundError(f"{table.what}: cut off before their sums")
    for kind_text, count, measure, total in (match.groups() for match in found):
        kind = sums[_KINDS[kind_text]]
        there = kind.received_fen if "实收" in measure else kind.amount_fen
        if (int(count), abs(_fen(total, table.what))) != (kind.count, there):
            raise BillUnsoundError(f"{table.what}: do not come to their sums ({kind_text}合计)")


def _check_summary(table: _Table, sums: Mapping[BillEntryKind, _Sums]) -> None:
    """The summary's counts and sums; a sum is of payments alone, or less what went back."""
    payments, refunds = sums[BillEntryKind.PAYMENT], sums[BillEntryKind.REFUND]
    wanted = {
        _SUMMARY_COLUMN: {payments.count},
        "退款订单总笔数": {refunds.count},
        "订单金额": _alone_or_less(payments.amount_fen, refunds.amount_fen),
        "商家实收": _alone_or_less(payments.received_fen, refunds.received_fen),
        "服务费": {abs(payments.fee_fen), abs(payments.fee_fen + refunds.fee_fen)},
    }
    found = [row for _, row in table.rows()]
    totals = [row for row in found if row[0] == "合计"]
    stores = [row for row in found if row[0] != "合计"]
    for column, allowed in wanted.items():
        if column not in table.columns:
            raise BillUnsoundError(f"{table.what}: no column {column}")
        for rows in filter(None, (totals, stores)):
            if abs(sum(_numbers(table, rows, column))) not in allowed:
                raise BillUnsoundError(f"{table.what}: {column} is not what the details come to")
    if not found and (payments.count or refunds.count):
        raise BillUnsoundError(f"{table.what}: nothing, where there are details")


def _alone_or_less(payments_fen: int, refunds_fen: int) -> set[int]:
    return {payments_fen, abs(payments_fen - refunds_fen)}


def _numbers(table: _Table, rows: Sequence[list[str]], column: str) -> Iterator[int]:
    for row in rows:
        text = table.cell(row, column)
        if "笔数" not in column:
            yield _fen(text, table.what)
        elif text.isascii() and text.isdigit():
            yield int(text)
        else:
            raise BillUnsoundError(f"{table.what}: not a count: {text[:32]!r}")


def _fen(text: str, what: str) -> int:
    try:
        return _signed_fen(text)
    except ValueError as error:
        raise BillUnsoundError(f"{what}: {error}") from error
