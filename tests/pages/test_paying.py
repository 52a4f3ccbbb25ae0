"""Which way to pay fits which browser, what an amount is, and what the four ticks say."""

import re
from datetime import UTC, datetime

import pytest

from payments.contract import Method
from server.core.errors import InvalidInputError
from server.handlers.guards import fen_from_text
from server.handlers.paying import Browser, Watched, Way, browser_of, offered, ways_of
from server.handlers.rendering import fragment, kwh, qr_svg, yuan
from server.http.locale import Locale
from server.services.public_page import is_settled, ticks
from server.services.top_up_views import TopUpView

ALL = tuple(Method)
AT = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
NATIVE, H5, WAP, QR = (
    Method.WECHAT_NATIVE,
    Method.WECHAT_H5,
    Method.ALIPAY_WAP,
    Method.ALIPAY_QR,
)


@pytest.mark.parametrize(
    ("agent", "browser"),
    [
        ("", Browser.DESKTOP),
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/140", Browser.DESKTOP),
        ("Mozilla/5.0 (Linux; Android 14) Mobile Safari", Browser.PHONE),
        ("Mozilla/5.0 (Phone; OpenHarmony 5.0) ArkWeb/4.1 Mobile HarmonyOS", Browser.PHONE),
        ("Mozilla/5.0 (iPhone) MicroMessenger/8.0.50", Browser.WECHAT),
        ("Mozilla/5.0 (iPhone) AlipayClient/10.5", Browser.ALIPAY),
    ],
)
def test_a_browser_by_its_own_words(agent: str, browser: Browser) -> None:
    assert browser_of(agent) is browser


@pytest.mark.parametrize(
    ("browser", "methods", "shown"),
    [
        (Browser.PHONE, ALL, (H5, WAP)),
        (Browser.WECHAT, ALL, (NATIVE,)),
        (Browser.ALIPAY, ALL, (WAP,)),
        (Browser.DESKTOP, ALL, (NATIVE, QR)),
        (Browser.PHONE, (WAP,), (WAP,)),
        (Browser.PHONE, (NATIVE,), (NATIVE,)),  # a code for another phone is better than nothing
        (Browser.ALIPAY, (H5, NATIVE), (NATIVE,)),
        (Browser.DESKTOP, (), ()),
        (Browser.PHONE, (Method.WECHAT_JSAPI,), ()),  # needs a login
    ],
)
def test_what_a_browser_is_offered(
    browser: Browser, methods: tuple[Method, ...], shown: tuple[Method, ...]
) -> None:
    assert offered(browser, methods) == shown


@pytest.mark.parametrize(
    ("methods", "ways"),
    [
        ((NATIVE, QR), [Way("codes", (NATIVE, QR))]),  # side by side
        ((H5, WAP), [Way("wechat_h5", (H5,)), Way("alipay_wap", (WAP,))]),
        ((QR,), [Way("alipay_qr", (QR,))]),
        ((), []),
    ],
)
def test_whoever_can_be_shown_one_code_can_be_shown_two(
    methods: tuple[Method, ...], ways: list[Way]
) -> None:
    assert ways_of(methods) == ways


@pytest.mark.parametrize(
    ("text", "fen"),
    [("50", 5000), ("0.01", 1), ("88.5", 8850), (" ¥12.34 ", 1234), ("999999.99", 99999999)],
)
def test_an_amount_as_people_type_it(text: str, fen: int) -> None:
    assert fen_from_text(text) == fen


@pytest.mark.parametrize("text", ["", "-1", "1.234", "1e3", "1,000", ".5", "١٢", "5 0", "1" * 7])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InvalidInputError):
        fen_from_text(text)


def _view(done: int, status: str = "paid") -> TopUpView:
    times = [AT if index < done else None for index in range(4)]
    return TopUpView(
        top_up_no="1",
        tenancy_id=1,
        status=status,
        wallet="electricity",
        amount_fen=1,
        refunded_fen=0,
        created_at=AT,
        expires_at=AT,
        paid_at=times[0],
        credited_at=times[1],
        commanded_at=times[2],
        confirmed_at=times[3],
    )


@pytest.mark.parametrize(
    ("done", "glance", "states", "settled"),
    [
        (0, "off", "waiting waiting waiting waiting", False),
        (1, "off", "done waiting waiting waiting", False),
        (2, "switching", "done done waiting waiting", False),
        (2, "off", "done done stuck stuck", False),  # still overdrawn, or held
        (2, "ready", "done done stuck stuck", False),  # somebody has to press the button
        (2, "on", "done done unneeded unneeded", True),
        (2, "low", "done done unneeded unneeded", True),
        (3, "off", "done done done waiting", False),
        (3, "switching", "done done done waiting", False),
        (4, "on", "done done done done", True),
    ],
)
def test_the_ticks_of_a_payment(done: int, glance: str, states: str, *, settled: bool) -> None:
    view = _view(done)
    assert " ".join(tick.state for tick in ticks(view, glance)) == states
    assert is_settled(view, glance) is settled


@pytest.mark.parametrize("status", ["closed", "refunded"])
def test_a_closed_payment_is_settled(status: str) -> None:
    assert is_settled(_view(0, status), "off")


@pytest.mark.parametrize(
    ("done", "status", "words"),
    [
        (0, "closed", "closed unpaid"),
        (1, "closed", "could not be credited"),  # its money is in suspense
        (2, "paid", "has arrived"),
        (4, "paid", "complete"),
        (4, "refunded", "Refunded"),
    ],
)
def test_the_end_of_a_payment_in_words(done: int, status: str, words: str) -> None:
    view = _view(done, status)
    watched = Watched(
        view=view,
        at=AT,
        timezone="Asia/Shanghai",
        shop_code="A101",
        shop_name="茶饮",
        ticks=ticks(view, "off"),
        glance="off",
        reasons=(),
        settled=is_settled(view, "off"),
    )
    shown = fragment(Locale.EN, "region_ticks.html", watched=watched, now=AT)
    banner = re.search(r'<p class="banner[^>]*>([^<]*)</p>', shown)
    assert banner is not None
    assert words in banner[1]


@pytest.mark.parametrize(
    ("fen", "shown"),
    [(0, "¥0.00"), (5, "¥0.05"), (-123456, "−¥1,234.56"), (123456789, "¥1,234,567.89")],
)
def test_money_as_people_read_it(fen: int, shown: str) -> None:
    assert yuan(fen) == shown


def test_energy_as_people_read_it() -> None:
    assert kwh(1_239) == "1.23"


def test_a_code_holds_no_markup_of_its_text() -> None:
    assert "script" not in qr_svg("<script>alert(1)</script>")
