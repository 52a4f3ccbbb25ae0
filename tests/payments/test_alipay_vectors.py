"""What the official SDKs of other languages verify, we verify: numbers, chains and signatures.

Their vectors for AES have no counterpart here: nothing that we send or read is encrypted.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from payments.alipay import answers, certificates, notice, signing
from payments.alipay.config import AlipayMerchant
from payments.contract import PlatformUnavailableError, TradeStatus
from tests.fakes.keys import rsa_key

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "alipay_sdks.json").read_text(encoding="utf-8")
)


def by_source(name: str) -> list[Any]:
    return [pytest.param(one, id=one["source"]) for one in VECTORS[name]]


@pytest.mark.parametrize("vector", by_source("certificate_numbers"))
def test_the_number_of_a_certificate(vector: dict[str, str]) -> None:
    (certificate,) = certificates.read_chain(vector["pem"], "s")

    assert certificates.number_of(certificate) == vector["number"]


def test_the_number_of_the_roots_leaves_out_what_is_not_signed_by_rsa() -> None:
    roots = certificates.read_roots(VECTORS["roots"]["pem"], "s")

    assert VECTORS["roots"]["pem"].count("BEGIN") == 4
    assert certificates.number_of_roots(roots) == VECTORS["roots"]["number"]


@pytest.mark.parametrize("vector", by_source("chains"))
def test_whom_a_root_vouches_for(vector: dict[str, Any]) -> None:
    roots = certificates.read_roots(vector["roots"] or VECTORS["roots"]["pem"], "s")
    chain = certificates.read_chain(vector["chain"], "s")

    def check() -> None:
        certificates.check_issued(chain, roots, datetime.fromisoformat(vector["at"]))

    if vector["trusted"]:
        check()
    else:
        with pytest.raises(ValueError, match="certificate"):
            check()


@pytest.mark.parametrize("vector", by_source("signed_parameters"))
def test_what_is_signed_and_by_whom(vector: dict[str, Any]) -> None:
    (certificate,) = certificates.read_chain(vector["pem"], "s")
    key = certificates.key_of(certificate, "s")
    content = signing.canonical(vector["fields"], without=frozenset({"sign"})).encode()

    assert signing.is_signed(key, content, vector["sign"]) is vector["genuine"]


def test_a_notice_of_2019_is_still_true() -> None:
    vector = VECTORS["notice"]
    key = signing.public_key(vector["public_key"], "s")
    merchant = AlipayMerchant("2019073166072302", "2088531891668739", "")

    told = notice.parse_notice({}, urlencode(vector["fields"]).encode(), [key], merchant)

    assert (told.trade.status, told.trade.paid_fen) == (TradeStatus.PAID, 10)
    assert told.trade.out_trade_no == "20190815155618536-564-57"
    assert told.trade.paid_at == datetime.fromisoformat("2019-08-15T15:56:24+08:00")


def test_an_answer_of_the_platform_is_still_true() -> None:
    vector = VECTORS["answer"]
    key = signing.public_key(vector["public_key"], "s")

    read = answers.read_answer(vector["raw"].encode(), vector["method"], lambda _: key)

    assert read["file_id"] == "CAxAToWB1JsAAAAAAAAAAAAADgSLAQBr"
    altered = vector["raw"].replace("CAxA", "CAxB").encode()
    with pytest.raises(PlatformUnavailableError):
        answers.read_answer(altered, vector["method"], lambda _: key)


@pytest.mark.parametrize("vector", VECTORS["signed_spans"]["answers"])
def test_what_of_an_answer_is_signed(vector: tuple[str, str]) -> None:
    """Signed anew with a key of ours over what the SDK cuts out: so that is what we cut out."""
    raw, span = vector
    key = rsa_key("platform")
    signed = raw.replace("SIGN", signing.sign(key, span.encode()))

    method = VECTORS["signed_spans"]["method"]
    assert answers.read_answer(signed.encode(), method, lambda _: key.public_key())
