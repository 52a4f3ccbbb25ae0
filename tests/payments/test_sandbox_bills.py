"""Bills at the sandbox: lines and sums of a Chinese day, when there is one, and unsound ones."""

import gzip
import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from urllib.parse import urlsplit

import httpx
import pytest

from payments.contract import Platform
from payments.sandbox import files
from payments.sandbox.bills import Line, Statement
from payments.sandbox.books import Order, OrderState, RefundState
from payments.sandbox.faults import Fault, Kind
from payments.sandbox.wechat_bills import HEADER, SUMMARY, file_of
from tests.payments.shops import NOON, Yard

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY
QUERY = "alipay.data.dataservice.bill.downloadurl.query"
_DAYS = count(1)


@dataclass
class Bill:
    """What a merchant makes of a bill; `sound`: it is what its hash says."""

    rows: list[list[str]]
    sums: list[str]
    text: str
    sound: bool = True


@pytest.fixture
def day(yard: Yard) -> str:
    """A day of the test's own, at noon: what others did stands on other days."""
    yard.clock.at = NOON + timedelta(days=next(_DAYS))
    return f"{yard.clock.at:%Y-%m-%d}"


def ten_after(day: str) -> datetime:
    """When the bill of a day is there: at ten in China on the next one."""
    return datetime.fromisoformat(f"{day}T02:00:00+00:00") + timedelta(days=1)


async def two_paid_one_returned(yard: Yard, number: str) -> None:
    """88.80 and 1.00 paid, 30.00 of the first given back, on both platforms."""
    for name, fen in (("a", 8880), ("b", 100)):
        await yard.wechat.paid(f"{number}{name}", fen)
        await yard.alipay.paid(f"{number}{name}", fen)
    await yard.wechat.refund(f"{number}a", 3000)
    await yard.alipay.refund(f"{number}a", "30.00")
    await yard.sandbox.quiet()


async def wechat_asks(yard: Yard, day: str, **query: str) -> httpx.Response:
    asked = httpx.QueryParams({"bill_date": day} | query)
    return await yard.wechat.send("GET", f"/v3/bill/tradebill?{asked}")


async def wechat_bill(yard: Yard, day: str, **query: str) -> Bill:
    told = (await wechat_asks(yard, day, **query)).json()
    parts = urlsplit(told["download_url"])
    file = await yard.wechat.send("GET", f"{parts.path}?{parts.query}")
    content = gzip.decompress(file.content) if query else file.content
    lines = content.decode("utf-8-sig").split("\r\n")
    assert (lines[0], lines[-3], lines[-1], told["hash_type"]) == (HEADER, SUMMARY, "", "SHA1")
    rows = [line.removeprefix("`").split(",`") for line in lines[1:-3]]
    sums = lines[-2].removeprefix("`").split(",`")
    hashed = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return Bill(rows, sums, content.decode(), hashed == told["hash_value"])


async def alipay_zip(yard: Yard, day: str) -> bytes:
    told = await yard.alipay.call(QUERY, bill_type="trade", bill_date=day)
    return (await yard.http.get(told["bill_download_url"])).content


async def alipay_bill(yard: Yard, day: str) -> Bill:
    archive = zipfile.ZipFile(io.BytesIO(await alipay_zip(yard, day)), metadata_encoding="gbk")
    details, summary = [archive.read(one).decode("gbk").split("\r\n") for one in archive.namelist()]
    rows = [[cell.strip() for cell in line.split(",")] for line in details[5:] if "," in line]
    sums = [cell.strip() for cell in summary[5].split(",")]
    return Bill(rows, sums, "\n".join([*archive.namelist(), *details, *summary]))


def test_a_wechat_bill_is_the_real_one_byte_by_byte() -> None:
    """Against the public hash of a real file (the test vector of wechatpay-go)."""

    def line(at: str, transaction_id: str, number: str) -> Line:
        paid_at = datetime.fromisoformat(f"2021-01-28T{at}+08:00")
        payload = {
            "appid": "wx81be3101902f7cb2",
            "openid": "ofyak5qR_1wYsC99CsWA6R9MJazA",
            "trade_type": "NATIVE",
            "description": "for testing",
            "attach": "cipher code",
        }
        order = Order(
            *(WECHAT, "1601959334", f"S20210128{number}", 1, "", paid_at, payload),
            *(OrderState.PAID, f"42000009{transaction_id}", paid_at),
        )
        return Line(order, 1, paid_at)

    lines = [
        line("17:07:11", "25202101284997714292", "170702357723"),
        line("15:35:18", "10202101282955148400", "153505214586"),
        line("16:59:46", "26202101281412639609", "165824499930"),
    ]
    content = file_of(Statement(date(2021, 1, 28), lines)).replace(b"0.60%", b"1.00%")
    hashed = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    assert hashed == "dcd7ceb3d382a1181798368bb15d8437de46c00f"


@pytest.mark.parametrize("query", [{}, {"bill_type": "ALL", "tar_type": "GZIP"}])
async def test_a_wechat_bill_has_each_payment_and_refund(
    yard: Yard, day: str, number: str, query: dict[str, str]
) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    bill = await wechat_bill(yard, day, **query)

    order = yard.sandbox.orders.find(WECHAT, f"{number}a")
    assert order is not None
    [refund] = yard.sandbox.orders.refunds_of(order)
    head = [f"{day} 12:00:00", "wx0000000000000001", "1900000109", "0", ""]
    named = [order.transaction_id, f"{number}a", "oSandbox00000000000000000001", "NATIVE"]
    subject = ["示范商场 A101 电费", ""]
    assert bill.rows[0] == [
        *(*head, *named, "SUCCESS", "OTHERS", "CNY", "88.80", "0.00", "0", "0", "0.00", "0.00"),
        *("", "", *subject, "0.53000", "0.60%", "88.80", "0.00", ""),
    ]
    assert bill.rows[2] == [
        *(*head, *named, "REFUND", "OTHERS", "CNY", "0.00", "0.00", refund.payload["refund_id"]),
        *(f"R{number}a", "30.00", "0.00", "ORIGINAL", "SUCCESS", *subject),
        *("-0.18000", "0.60%", "0.00", "30.00", ""),
    ]
    assert {len(row) for row in bill.rows} == {27}
    assert bill.sums == ["3", "89.80", "30.00", "0.00", "0.36000", "89.80", "30.00"]
    assert bill.sound


async def test_an_alipay_bill_has_each_payment_and_refund(
    yard: Yard, day: str, number: str
) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    bill = await alipay_bill(yard, day)

    order = yard.sandbox.orders.find(ALIPAY, f"{number}a")
    assert order is not None
    named = [order.transaction_id, f"{number}a"]
    times = [f"{day} 12:00:00"] * 2
    empty = ["", "", "", "", "测试(san***@sandbox.example)"]
    assert bill.rows[0] == [
        *(*named, "交易", "A101 电费", *times, *empty, "88.80", "88.80"),
        *("0.00", "0.00", "0.00", "0.00", "0.00", "", "0.00", "0.00", "", "-0.53", "0.00", ""),
    ]
    assert bill.rows[2] == [
        *(*named, "退款", "A101 电费", *times, *empty, "-30.00", "-30.00"),
        *("0.00", "0.00", "0.00", "0.00", "0.00", "", "0.00", "0.00", f"R{number}a"),
        *("0.18", "0.00", ""),
    ]
    assert {len(row) for row in bill.rows} == {25}
    assert bill.sums == [
        *("合计", "", "2", "1", "59.80", "59.80", "0.00", "0.00", "0.00", "-0.36", "0.00"),
        "59.44",
    ]

    def midnight(later: int) -> str:
        return f"{date.fromisoformat(day) + timedelta(days=later):%Y年%m月%d日} 00:00:00"

    compact = day.replace("-", "")
    for line in (
        f"20880000000000010156_{compact}_业务明细.csv",
        f"20880000000000010156_{compact}_业务明细(汇总).csv",
        "#账号：[20880000000000010156]",
        f"#起始日期：[{midnight(0)}]   终止日期：[{midnight(1)}]",
        "#交易合计：2笔，商家实收共89.80元，商家优惠共0.00元",
        "#退款合计：1笔，商家实收退款共-30.00元，商家优惠退款共0.00元",
    ):
        assert line in bill.text.split("\n")


async def test_the_same_bill_is_the_same_file(yard: Yard, day: str, number: str) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    wechat = [(await wechat_asks(yard, day)).json()["hash_value"] for _ in range(2)]
    alipay = [await alipay_zip(yard, day) for _ in range(2)]
    assert wechat[0] == wechat[1]
    assert alipay[0] == alipay[1]


async def test_a_day_is_china_s(yard: Yard, day: str, number: str) -> None:
    """The last second of a day and the first of the next stand on different bills."""
    midnight = datetime.fromisoformat(f"{day}T16:00:00+00:00")
    next(_DAYS)  # the next day is this test's too
    for at, name in ((midnight - timedelta(seconds=1), "late"), (midnight, "early")):
        yard.clock.at = at
        await yard.wechat.paid(f"{number}{name}")
        await yard.alipay.paid(f"{number}{name}")
    yard.clock.at = midnight + timedelta(days=2)
    for nth, name in ((0, "late"), (1, "early")):
        asked = f"{date.fromisoformat(day) + timedelta(days=nth)}"
        assert [row[6] for row in (await wechat_bill(yard, asked)).rows] == [f"{number}{name}"]
        assert [row[1] for row in (await alipay_bill(yard, asked)).rows] == [f"{number}{name}"]


async def test_a_bill_keeps_the_state_that_a_refund_had(yard: Yard, day: str, number: str) -> None:
    yard.sandbox.faults.add(Fault(WECHAT, Kind.REFUND_STUCK, "refund"))
    await yard.wechat.paid(number)
    await yard.wechat.refund(number, 3000)
    seen = []
    for at, state in (
        (ten_after(day) - timedelta(minutes=1), RefundState.SUCCESS),
        (ten_after(day) + timedelta(minutes=1), RefundState.ABNORMAL),
    ):
        yard.clock.at = at
        await yard.control.settle(WECHAT, f"R{number}", state)
        yard.clock.at = ten_after(day) + timedelta(hours=1)
        seen.append((await wechat_bill(yard, day)).rows[1][19])
    assert seen == ["SUCCESS", "SUCCESS"]


@pytest.mark.parametrize(
    ("kind", "state", "alipays"),
    [
        (Kind.REFUND_CLOSED, "REFUNDCLOSE", 1),
        (Kind.REFUND_ABNORMAL, "CHANGE", 1),
        (Kind.REFUND_STUCK, "PROCESSING", 1),
        (Kind.SLOW, "SUCCESS", 2),
    ],
)
async def test_a_bill_says_what_became_of_a_refund(
    yard: Yard, day: str, number: str, kind: Kind, state: str, alipays: int
) -> None:
    """At Alipay only what was given back stands on it."""
    yard.sandbox.faults.add(Fault(WECHAT, kind, "refund"), Fault(ALIPAY, kind, "refund"))
    await yard.wechat.paid(number)
    await yard.alipay.paid(number)
    await yard.wechat.refund(number, 3000)
    await yard.alipay.refund(number, "30.00")
    await yard.sandbox.quiet()
    yard.clock.at = ten_after(day)
    assert [row[19] for row in (await wechat_bill(yard, day)).rows] == ["", state]
    assert len((await alipay_bill(yard, day)).rows) == alipays


async def test_there_is_no_bill_before_ten_and_none_of_a_day_without_business(
    yard: Yard, day: str, number: str
) -> None:
    today = await wechat_asks(yard, day)
    alipays_today = await yard.alipay.call(QUERY, bill_type="trade", bill_date=day)
    yard.clock.at = ten_after(day) - timedelta(seconds=1)
    early = await wechat_asks(yard, day)
    alipays = [await yard.alipay.call(QUERY, bill_type="trade", bill_date=day)]
    yard.clock.at = ten_after(day)
    empty = await wechat_asks(yard, day)
    alipays.append(await yard.alipay.call(QUERY, bill_type="trade", bill_date=day))

    assert [(one.status_code, one.json()["code"]) for one in (today, early, empty)] == [
        (400, "STATEMENT_CREATING"),
        (400, "STATEMENT_CREATING"),
        (400, "NO_STATEMENT_EXIST"),
    ]
    assert alipays_today["sub_code"] == "isv.invalid_arguments"
    assert [one["sub_code"] for one in alipays] == ["isp.bill_not_exist"] * 2


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ("2026-5-24", {}),
        ("20260524", {}),
        ("yesterday", {}),
        ("2099-01-01", {}),
        ("2020-01-01", {}),
        ("2026-05-23", {"bill_type": "SUCCESS"}),
        ("2026-05-23", {"tar_type": "ZIP"}),
    ],
)
async def test_wechat_makes_no_such_bill(yard: Yard, asked: str, query: dict[str, str]) -> None:
    answer = await wechat_asks(yard, asked, **query)
    assert (answer.status_code, answer.json()["code"]) == (400, "PARAM_ERROR")


@pytest.mark.parametrize(
    ("kind", "day"), [("signcustomer", "2026-05-23"), ("trade", "2026-05"), ("trade", "2099-01-01")]
)
async def test_alipay_makes_no_such_bill(yard: Yard, kind: str, day: str) -> None:
    answer = await yard.alipay.call(QUERY, bill_type=kind, bill_date=day)
    assert (answer["code"], answer["sub_code"]) == ("40004", "isv.invalid_arguments")


async def test_a_file_is_there_for_half_a_minute(yard: Yard, day: str, number: str) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    wechat = urlsplit((await wechat_asks(yard, day)).json()["download_url"])
    target = f"{wechat.path}?{wechat.query}"
    alipay = await yard.alipay.call(QUERY, bill_type="trade", bill_date=day)
    unsigned = await yard.http.get(target)
    seen = []
    for _ in range(2):
        seen.append((await yard.wechat.send("GET", target)).status_code)
        seen.append((await yard.http.get(alipay["bill_download_url"])).status_code)
        yard.pass_time(seconds=30)
    assert unsigned.status_code == 401
    assert seen == [200, 200, 400, 404]


def test_only_so_many_files_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILES_MAX", 2)
    kept, now = files.Files(), datetime(2026, 5, 24, tzinfo=UTC)
    tokens = [kept.put(b"%d" % nth, now) for nth in range(4)]
    assert [kept.get(token, now) for token in tokens][2:] == [b"2", b"3"]
    assert len(kept._files) <= 3


@pytest.mark.parametrize(
    ("kind", "rows", "wechats", "alipays"),
    [
        (Kind.BILL_MISSING, ["b", "Ra"], "2", ["1", "1"]),
        (Kind.BILL_REFUND_MISSING, ["a", "b"], "2", ["2", "0"]),
        (Kind.BILL_EXTRA, ["a", "b", "Ra", "X"], "4", ["3", "1"]),
        (Kind.BILL_AMOUNT, ["a", "b", "Ra"], "3", ["2", "1"]),
    ],
)
async def test_a_bill_may_differ_and_be_sound(
    yard: Yard,
    day: str,
    number: str,
    kind: Kind,
    rows: list[str],
    wechats: str,
    alipays: list[str],
) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    yard.sandbox.faults.add(Fault(WECHAT, kind), Fault(ALIPAY, kind))
    wechat, alipay = await wechat_bill(yard, day), await alipay_bill(yard, day)
    sound = await wechat_bill(yard, day)

    stranger = f"X{day.replace('-', '')}"
    expected = [stranger if one == "X" else one.replace("R", "R" + number) for one in rows]
    expected = [one if len(one) > 1 else number + one for one in expected]
    assert [row[15] if row[15] != "0" else row[6] for row in wechat.rows] == expected
    assert [row[21] or row[1] for row in alipay.rows] == expected
    assert wechat.sound
    assert wechat.sums[0] == wechats
    assert alipay.sums[2:4] == alipays
    if kind is Kind.BILL_AMOUNT:
        assert (wechat.rows[0][24], alipay.rows[0][11]) == ("88.81", "88.81")
        assert wechat.sums[5] == "89.81"
    assert len(sound.rows) == 3  # the fault happened once


async def test_a_bill_may_be_unsound(yard: Yard, day: str, number: str) -> None:
    await two_paid_one_returned(yard, number)
    yard.clock.at = ten_after(day)
    for platform in Platform:
        yard.sandbox.faults.add(Fault(platform, Kind.BILL_HASH))
    assert not (await wechat_bill(yard, day)).sound
    with pytest.raises((zipfile.BadZipFile, zlib.error)):
        await alipay_bill(yard, day)

    for platform in Platform:
        yard.sandbox.faults.add(Fault(platform, Kind.BILL_SUMMARY))
    wechat, alipay = await wechat_bill(yard, day), await alipay_bill(yard, day)
    assert wechat.sound
    assert wechat.sums[5] == "89.81"
    assert alipay.sums[4] == "59.81"
