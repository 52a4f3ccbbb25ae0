"""A day's bill of WeChat Pay, proved and read: hash, columns, rows, and the sums of its last line.

Form: pay.weixin.qq.com/docs/merchant/products/bill-download/format-trade.html. A bill lists what
was paid (at the time of success) and what was given back (at the time of acceptance) between two
midnights of Chinese time. Everything here is pure, and may take seconds: run it in a thread.
"""

import hashlib
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import NamedTuple, Never

import msgspec

from payments.contract import (
    Bill,
    BillEntry,
    BillEntryKind,
    BillUnsoundError,
    Platform,
    PlatformUnavailableError,
    RefundStatus,
)
from payments.wechat.orders import CHINA

PACKED_BYTES_MAX = 16 * 1024 * 1024
UNPACKED_BYTES_MAX = 64 * 1024 * 1024

_COLUMNS = (
    "交易时间", "公众账号ID", "商户号", "特约商户号", "设备号", "微信订单号", "商户订单号",
    "用户标识", "交易类型", "交易状态", "付款银行", "货币种类", "应结订单金额", "代金券金额",
    "微信退款单号", "商户退款单号", "退款金额", "充值券退款金额", "退款类型", "退款状态",
    "商品名称", "商户数据包", "手续费", "费率", "订单金额", "申请退款金额", "费率备注",
)  # fmt: skip
_SUMMARY = (
    "总交易单数", "应结订单总金额", "退款总金额", "充值券退款总金额", "手续费总金额",
    "订单总金额", "申请退款总金额",
)  # fmt: skip
_FEES = "手续费总金额"
_STATUSES = {
    "SUCCESS": RefundStatus.SUCCEEDED,
    "PROCESSING": RefundStatus.PROCESSING,
    "FAIL": RefundStatus.ABNORMAL,  # of the older descriptions: somebody has to look
    "CHANGE": RefundStatus.ABNORMAL,
    "ABNORMAL": RefundStatus.ABNORMAL,
    "REFUNDCLOSE": RefundStatus.CLOSED,
    "CLOSED": RefundStatus.CLOSED,
}
_FEN = 1000  # amounts are read in thousandths of a fen: a fee has five decimals of a yuan
_YUAN = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,5}))?", re.ASCII)
_COUNT = re.compile(r"([0-9]{1,9})(?:\.0+)?", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
_NUMBER = re.compile(r"[!-_a-~]{1,64}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)


class Offer(msgspec.Struct):
    """Where a bill can be fetched, and what it must be."""

    hash_type: str
    hash_value: str
    download_url: str


class _Row(NamedTuple):
    """One line of the bill, in the order of `_COLUMNS`."""

    time: str
    app_id: str
    merchant_id: str
    sub_merchant_id: str
    device: str
    transaction_id: str
    out_trade_no: str
    payer: str
    trade_type: str
    state: str
    bank: str
    currency: str
    settled: str
    coupons: str
    refund_id: str
    out_refund_no: str
    refund_settled: str
    refund_coupons: str
    refund_type: str
    refund_state: str
    goods: str
    attach: str
    fee: str
    rate: str
    total: str
    refund: str
    rate_note: str


def offer_from_answer(content: bytes) -> Offer:
    """What the platform offers to fetch; PlatformUnavailableError if unreadable."""
    try:
        return msgspec.json.decode(content, type=Offer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        detail = f"the offer of a bill has another form: {error}"
        raise PlatformUnavailableError(detail, code="BAD_ANSWER") from None


def no_bill(merchant_id: str, day: date) -> Bill:
    """A day on which nobody paid."""
    return Bill(Platform.WECHAT, merchant_id, day, entries=(), digest="")


def read_bill(packed: bytes, offer: Offer, merchant_id: str, day: date) -> Bill:
    """The bill in a fetched file; raises BillUnsoundError, which names what is wrong.

    Amounts are those that we ordered and asked to give back, whatever coupons paid of them: of a
    payment 订单金额, of a refund 申请退款金额 ("what the merchant asked to give back: to the payer
    and in both kinds of coupons"), not 退款金额 (without the coupons that the merchant gave). A row
    REVOKED is a payment at another till (only pay codes can be revoked) whose money went back: a
    refund, which may have no numbers; without an amount it moved nothing and is left out. A fee
    that comes back with a refund is negative.
    """
    unpacked = _unpacked(packed)
    expected = offer.hash_value.lower()
    if offer.hash_type.upper() != "SHA1" or _SHA1.fullmatch(expected) is None:
        _unsound("hash", "is not a SHA-1")
    if hashlib.sha1(unpacked, usedforsecurity=False).hexdigest() != expected:
        _unsound("hash", "is not that of the file")
    lines, sums, entries = _Lines(unpacked), _Sums(), []
    for row in lines:
        sums.add(row)
        if (entry := _entry(row, merchant_id, day)) is not None:
            entries.append(entry)
    sums.check(lines.summary)
    return Bill(
        platform=Platform.WECHAT,
        merchant_id=merchant_id,
        day=day,
        entries=entries,
        digest=hashlib.sha256(unpacked).hexdigest(),
    )


def _unpacked(packed: bytes) -> bytes:
    if not packed.startswith(b"\x1f\x8b"):
        return packed  # not packed at all: the hash decides
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(packed, UNPACKED_BYTES_MAX)
    except zlib.error as error:
        _unsound("file", f"cannot be unpacked: {error}")
    if not unpacking.eof or unpacking.unconsumed_tail or unpacking.unused_data:
        _unsound("file", f"is cut, larger than {UNPACKED_BYTES_MAX} bytes, or has more behind it")
    return unpacked


class _Lines:
    """The rows of a bill, one at a time; after the last one `summary` has the cells of the end."""

    def __init__(self, unpacked: bytes) -> None:
        self.summary: Sequence[str] = ()
        self._content = unpacked.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")

    def __iter__(self) -> Iterator[_Row]:
        lines = (_text(line) for line in io.BytesIO(self._content))
        if next(lines, "") != ",".join(_COLUMNS):
            _unsound("columns", "are others (a bill of 27 is read: 开通免充值优惠券 gives it)")
        behind: deque[str] = deque()  # the last two lines are the summary's
        for number, line in enumerate(lines):
            behind.append(line)
            if len(behind) > 2:
                cells = _cells(behind.popleft(), len(_COLUMNS), f"line {number}")
                yield _Row(*cells)
        if len(behind) < 2 or behind[0] != ",".join(_SUMMARY):
            _unsound("summary", "is missing, or names others")
        self.summary = _cells(behind[1], len(_SUMMARY), "summary")


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        _unsound("file", "is not UTF-8")


def _cells(line: str, count: int, place: str) -> list[str]:
    """The cells, each of which begins with a backtick (so that a comma in one divides nothing)."""
    if not line.startswith("`"):
        _unsound(place, "does not begin with a backtick")
    cells = line[1:].split(",`")
    if len(cells) != count:
        _unsound(place, f"has {len(cells)} columns, not {count}")
    return cells


def _entry(row: _Row, merchant_id: str, day: date) -> BillEntry | None:
    if row.merchant_id != merchant_id:
        _unsound("merchant", "is another")
    if row.currency != "CNY":
        _unsound("currency", "is another")
    if row.state == "SUCCESS":
        return _payment(row, day)
    if row.state == "REFUND":
        return _refund(row, day)
    if row.state == "REVOKED":
        return _reversal(row, day)
    return _unsound("state", "is unknown")


def _payment(row: _Row, day: date) -> BillEntry:
    return BillEntry(
        kind=BillEntryKind.PAYMENT,
        out_trade_no=_number(row.out_trade_no),
        transaction_id=_number(row.transaction_id),
        amount_fen=_moved_fen(row.total),
        at=_time(row.time, day),
        fee_fen=_rounded_fen(_milli(row.fee)),
    )


def _refund(row: _Row, day: date) -> BillEntry:
    status = _STATUSES.get(row.refund_state)
    if status is None:
        _unsound("refund status", "is unknown")
    return BillEntry(
        kind=BillEntryKind.REFUND,
        out_trade_no=_number(row.out_trade_no),
        transaction_id=_number(row.transaction_id),
        amount_fen=_moved_fen(row.refund),
        at=_time(row.time, day),
        fee_fen=_rounded_fen(_milli(row.fee)),
        out_refund_no=_number(row.out_refund_no),
        refund_id=_number(row.refund_id),
        status=status,
    )


def _reversal(row: _Row, day: date) -> BillEntry | None:
    if _milli(row.refund) == 0:
        return None
    return BillEntry(
        kind=BillEntryKind.REFUND,
        out_trade_no=_number(row.out_trade_no),
        transaction_id=_number(row.transaction_id),
        amount_fen=_moved_fen(row.refund),
        at=_time(row.time, day),
        fee_fen=_rounded_fen(_milli(row.fee)),
        out_refund_no=None if row.out_refund_no in {"", "0"} else _number(row.out_refund_no),
        refund_id=None if row.refund_id in {"", "0"} else _number(row.refund_id),
        status=RefundStatus.SUCCEEDED,
    )


class _Sums:
    """What the rows add up to, in thousandths of a fen."""

    def __init__(self) -> None:
        self._count = 0
        self._totals = [0] * (len(_SUMMARY) - 1)

    def add(self, row: _Row) -> None:
        """Count a row."""
        cells = row.settled, row.refund_settled, row.refund_coupons, row.fee, row.total, row.refund
        self._count += 1
        self._totals = [
            total + _milli(cell) for total, cell in zip(self._totals, cells, strict=True)
        ]

    def check(self, summary: Sequence[str]) -> None:
        """Raise BillUnsoundError unless the summary says the same."""
        count = _COUNT.fullmatch(summary[0])
        if count is None or int(count[1]) != self._count:
            _unsound("summary", f"counts {summary[0][:20]!r}, and there are {self._count} rows")
        for name, text, found in zip(_SUMMARY[1:], summary[1:], self._totals, strict=True):
            exact = name != _FEES  # the one total that the platform may have rounded
            if _milli(text) != found and (
                exact or _rounded_fen(_milli(text)) != _rounded_fen(found)
            ):
                _unsound("summary", f"{name} is not the sum of the rows")


def _milli(text: str) -> int:
    """Yuan as written, exactly, in thousandths of a fen."""
    match = _YUAN.fullmatch(text)
    if match is None:
        _unsound("amount", f"{text[:20]!r} is none")
    milli = int(match[2]) * 100_000 + int((match[3] or "").ljust(5, "0"))
    return -milli if match[1] else milli


def _moved_fen(text: str) -> int:
    fen, rest = divmod(_milli(text), _FEN)
    if rest or fen <= 0:
        _unsound("amount", f"{text[:20]!r} is not one of whole fen above zero")
    return fen


def _rounded_fen(milli: int) -> int:
    """Half up, away from zero: a fee and its return cancel out."""
    fen = (abs(milli) + _FEN // 2) // _FEN
    return fen if milli >= 0 else -fen


def _number(text: str) -> str:
    if text == "0" or _NUMBER.fullmatch(text) is None:
        _unsound("number", f"{text[:20]!r} is none")
    return text


def _time(text: str, day: date) -> datetime:
    try:
        at = datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        at = None
    if at is None:
        _unsound("time", f"{text[:20]!r} is none")
    if at.date() != day:
        _unsound("time", "is of another day")
    return at.replace(tzinfo=CHINA)


def _unsound(what: str, problem: str) -> Never:
    raise BillUnsoundError(f"{what}: {problem}", code="BILL_UNSOUND")
