"""Keys, signatures and the exact bytes that they cover."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from payments.alipay import config, formats, signing
from payments.alipay.answers import read_answer
from payments.alipay.client import build
from payments.contract import MerchantConfigError, PlatformUnavailableError
from tests.fakes.keys import rsa_key, secret_file

KEY = rsa_key("app")
OTHER = rsa_key("stranger")
WEAK = rsa_key("weak", 1024)  # proves that it is refused
CURVE = ec.generate_private_key(ec.SECP256R1())

PKCS8 = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PKCS1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
PUBLIC = OTHER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def known(_number: str) -> RSAPublicKey:
    return OTHER.public_key()


def bare(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PKCS8, id="PKCS#8"),
        pytest.param(PKCS1, id="PKCS#1"),
        pytest.param(bare(PKCS8), id="bare base64 of PKCS#8, as the console's tool writes it"),
        pytest.param(bare(PKCS1), id="bare base64 of PKCS#1"),
        pytest.param(f"\n{PKCS8}\n\n", id="blank lines around"),
        pytest.param(PKCS1.replace("\n", "\r\n"), id="Windows line ends"),
    ],
)
def test_every_form_of_a_private_key_is_read(text: str) -> None:
    assert signing.private_key(text, "s").private_numbers() == KEY.private_numbers()


@pytest.mark.parametrize("text", [PUBLIC, bare(PUBLIC), f" {bare(PUBLIC)}\n"])
def test_both_forms_of_a_public_key_are_read(text: str) -> None:
    assert signing.public_key(text, "s") == OTHER.public_key()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in {
        "app.pem": PKCS8,
        "alipay.pem": PUBLIC,
        "weak.pem": WEAK.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "curve.pem": CURVE.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode(),
        "own.pem": KEY.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "words.txt": "secret words",
        "long.pem": "A" * 20_000,
        "chinese.txt": "密钥",
        "open.pem": PKCS8,
    }.items():
        secret_file(tmp_path / name, text)
    for name in ("open.pem", "alipay.pem"):
        (tmp_path / name).chmod(0o644)  # a public key is no secret
    return tmp_path


def test_a_merchant_is_loaded_from_files_and_never_printed(files: Path) -> None:
    merchant = config.load(
        app_id="2021000000000001",
        seller_id="2088000000000001",
        private_key_file=files / "app.pem",
        alipay_public_key_file=files / "alipay.pem",
    )

    assert merchant.private_key_pem == PKCS8
    assert "BEGIN" not in repr(merchant)


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"app_id": "wx1"}, "app_id"),
        ({"app_id": ""}, "app_id"),
        ({"seller_id": "2" * 33}, "seller_id"),
        ({"private_key_file": "absent.pem"}, "private_key_file"),
        ({"private_key_file": "words.txt"}, "private_key_file"),
        ({"private_key_file": "alipay.pem"}, "private_key_file"),
        ({"private_key_file": "weak.pem"}, "private_key_file"),
        ({"private_key_file": "curve.pem"}, "private_key_file"),
        ({"private_key_file": "long.pem"}, "private_key_file"),
        ({"private_key_file": "chinese.txt"}, "private_key_file"),
        ({"private_key_file": "open.pem"}, "private_key_file"),
        ({"alipay_public_key_file": "app.pem"}, "alipay_public_key_file"),
        ({"alipay_public_key_file": "own.pem"}, "alipay_public_key_file"),
        ({"alipay_public_key_file": "."}, "alipay_public_key_file"),
    ],
)
def test_what_cannot_be_used_is_named_but_not_shown(
    files: Path, change: dict[str, str], setting: str
) -> None:
    asked = {
        "app_id": "2021000000000001",
        "seller_id": "2088000000000001",
        "private_key_file": "app.pem",
        "alipay_public_key_file": "alipay.pem",
    } | change

    with pytest.raises(MerchantConfigError) as error:
        config.load(
            app_id=asked["app_id"],
            seller_id=asked["seller_id"],
            private_key_file=files / asked["private_key_file"],
            alipay_public_key_file=files / asked["alipay_public_key_file"],
        )

    assert [name for name, _ in error.value.problems] == [setting]
    assert error.value.detail.startswith(f"{setting}: ")
    assert "secret words" not in error.value.detail


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(MerchantConfigError) as error:
        config.load(
            app_id="x", seller_id="", private_key_file=absent, alipay_public_key_file=absent
        )
    assert [name for name, _ in error.value.problems] == [
        *("app_id", "seller_id", "private_key_file", "alipay_public_key_file"),
    ]


@pytest.mark.parametrize(
    "url",
    ["", "gateway", "ftp://a/b", "http://[::1", "https:///gateway.do", "https://a/gateway.do?x=1"],
)
def test_a_gateway_that_is_no_url_stops_the_start(url: str) -> None:
    merchant = config.AlipayMerchant("1", "2", PKCS8, PUBLIC)

    with pytest.raises(MerchantConfigError):
        build(merchant, url)


@pytest.mark.parametrize(
    ("params", "without", "content"),
    [
        ({"b": "2", "a": "1"}, frozenset(), "a=1&b=2"),
        ({"b": "", "a": "1"}, frozenset(), "a=1"),
        ({"sign": "x", "sign_type": "RSA2", "a": "1"}, frozenset({"sign"}), "a=1&sign_type=RSA2"),
        ({"a": "1 &=+", "B": "电"}, frozenset(), "B=电&a=1 &=+"),
    ],
)
def test_what_is_signed(params: dict[str, str], without: frozenset[str], content: str) -> None:
    assert signing.canonical(params, without=without) == content


@given(st.binary(max_size=200))
def test_a_signature_proves_its_content_alone(content: bytes) -> None:
    signature = signing.sign(KEY, content)

    assert signing.is_signed(KEY.public_key(), content, signature)
    assert not signing.is_signed(KEY.public_key(), content + b"x", signature)
    assert not signing.is_signed(OTHER.public_key(), content, signature)


@given(st.text(max_size=50))
def test_no_text_is_a_signature(text: str) -> None:
    assert not signing.is_signed(KEY.public_key(), b"content", text)


def answer(inner: str, *, sign_with: bytes | None = None, extra: str = "") -> bytes:
    """An answer whose signature covers `inner`, byte for byte."""
    signature = signing.sign(OTHER, sign_with or inner.encode())
    return f'{{"alipay_trade_query_response":{inner}{extra},"sign":"{signature}"}}'.encode()


INNER = '{"code":"10000","msg":"Success","qr_code":"https:\\/\\/qr.alipay.com\\/x", "a" : "电"}'


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(answer(INNER), id="escaped slashes and blanks are part of it"),
        pytest.param(answer(INNER, extra=',"alipay_cert_sn":"1"'), id="other members"),
        pytest.param(answer(INNER).replace(b'_response":', b'_response" :\n '), id="blanks around"),
        pytest.param(b" " + answer(INNER) + b"\r\n", id="blanks outside"),
        pytest.param(
            f'{{"sign":"{signing.sign(OTHER, INNER.encode())}",'
            f'"alipay_trade_query_response":{INNER}}}'.encode(),
            id="the signature first",
        ),
    ],
)
def test_the_signature_covers_the_bytes_that_came(raw: bytes) -> None:
    read = read_answer(raw, "alipay.trade.query", known)

    assert (read["qr_code"], read["a"]) == ("https://qr.alipay.com/x", "电")


def test_numbers_stay_text() -> None:
    read = read_answer(
        answer('{"code":10000,"total_amount":88.10,"big":12345678901234567890123}'),
        "alipay.trade.query",
        known,
    )

    assert read == {"code": "10000", "total_amount": "88.10", "big": "12345678901234567890123"}


def unsigned(code: str, sub_code: str = "ACQ.TRADE_NOT_EXIST") -> bytes:
    return json.dumps(
        {"alipay_trade_query_response": {"code": code, "sub_code": sub_code}}
    ).encode()


SHA1_SIGN = base64.b64encode(OTHER.sign(INNER.encode(), padding.PKCS1v15(), SHA1())).decode()  # noqa: S303 - proves that it is refused
PSS_SIGN = base64.b64encode(
    OTHER.sign(INNER.encode(), padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
).decode()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>busy</html>", id="HTML"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no answer"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b'{"a":' * 50_000, id="deep"),
        pytest.param(b'{"alipay_trade_query_response":' + b"[" * 100_000, id="deeper"),
        pytest.param(answer('"text"'), id="the answer is no object"),
        pytest.param(answer('{"code":NaN}'), id="NaN"),
        pytest.param(answer('{"code":"10000","code":"10000"}'), id="a name twice"),
        pytest.param(answer(INNER) + b"x", id="more behind"),
        pytest.param(answer(INNER, extra=f',"sign":"{"A" * 8}"'), id="two signatures"),
        pytest.param(answer(INNER, extra=f',"alipay_trade_query_response":{INNER}'), id="twice"),
        pytest.param(answer(INNER, sign_with=b"{}"), id="signed other bytes"),
        pytest.param(answer(INNER).replace(b"Success", b"success"), id="altered"),
        pytest.param(answer(INNER).replace(b'"sign":"', b'"sign":null,"x":"'), id="null for sign"),
        pytest.param(
            answer(INNER).replace(b"trade_query", b"trade_close"), id="an answer to another call"
        ),
        pytest.param(
            f'{{"alipay_trade_query_response":{INNER},"sign":"{SHA1_SIGN}"}}'.encode(), id="SHA-1"
        ),
        pytest.param(
            f'{{"alipay_trade_query_response":{INNER},"sign":"{PSS_SIGN}"}}'.encode(), id="PSS"
        ),
        pytest.param(unsigned("10000"), id="unsigned success"),
        pytest.param(unsigned("40004"), id="unsigned business failure"),
        pytest.param(unsigned("40002"), id="a fact of a trade among the gateway's refusals"),
        pytest.param(unsigned("40002", "isp.bill_not_exist"), id="a fact of a bill there"),
        pytest.param(unsigned("40002", "NO_BILL_DATA"), id="another"),
    ],
)
def test_an_answer_that_proves_nothing_means_ask_again(raw: bytes) -> None:
    with pytest.raises(PlatformUnavailableError) as error:
        read_answer(raw, "alipay.trade.query", known)

    assert error.value.code == "BAD_ANSWER"


@pytest.mark.parametrize(
    "sub_code",
    ["", "isv.invalid-app-id", "isp.unknow-error", "aop.ACQ.SYSTEM_ERROR", "isv.app-cert-expired"],
)
def test_the_gateways_own_refusal_may_be_unsigned(sub_code: str) -> None:
    raw = unsigned("40002", sub_code)

    assert read_answer(raw, "alipay.trade.query", known)["sub_code"] == sub_code


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with pytest.raises(PlatformUnavailableError):
        read_answer(raw, "alipay.trade.query", known)


@given(st.integers(0, 10_000_000_000))
def test_yuan_and_fen_are_the_same_money(fen: int) -> None:
    assert formats.fen_from_yuan(formats.yuan_text(fen)) == fen


@pytest.mark.parametrize("module", ["payments.alipay.client", "server.app", "server.cli"])
def test_importing_does_not_load_the_sdk_which_only_a_payment_needs(module: str) -> None:
    code = f"import {module}, sys; sys.exit('alipay' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own interpreter
