"""Certificate mode: how we name ourselves, whom we believe, and a change of certificate."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from payments.alipay import certificates, config, gateway, signing
from payments.alipay.client import AlipayPlatform
from payments.alipay.gateway import DOWNLOAD
from payments.alipay.keyring import FETCHED_MAX, Keyring
from payments.alipay.orders import QUERY
from payments.contract import (
    MerchantConfigError,
    NoticeRejectedError,
    PlatformUnavailableError,
    TradeStatus,
)
from tests.fakes.keys import rsa_key
from tests.payments.alipay_certificates import (
    ALIPAY,
    APP,
    BEGIN,
    END,
    ISSUER,
    ROOT,
    issued,
    name,
    pem,
)
from tests.payments.alipay_peer import (
    AlipayPeer,
    failed,
    http,
    merchant,
    platform_at,
    private_pem,
    standing,
)

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
NEW_KEY = rsa_key("new platform")
NEW = issued("Alipay", NEW_KEY, begin=NOW - timedelta(days=1))
MERCHANT = replace(
    merchant(),
    alipay_public_key_pem="",
    app_cert_pem=pem(APP, ISSUER),
    alipay_cert_pem=pem(ALIPAY, ISSUER),
    alipay_root_cert_pem=pem(ROOT),
)
WAITING = {"out_trade_no": "T1", "trade_status": "WAIT_BUYER_PAY"}


def sent(*chain: x509.Certificate) -> bytes:
    """How Alipay answers with a certificate: not signed."""
    content = base64.b64encode(pem(*chain).encode()).decode()
    name_ = f"{DOWNLOAD.replace('.', '_')}_response"
    answer = {name_: {"code": "10000", "msg": "Success", "alipay_cert_content": content}}
    return http(json.dumps(answer).encode())


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AlipayPeer]:
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    async with standing(AlipayPeer()) as it:
        it.beside = {"alipay_cert_sn": certificates.number_of(ALIPAY)}
        it.says(QUERY, WAITING)
        yield it


@pytest.fixture
async def alipay(peer: AlipayPeer) -> AsyncIterator[AlipayPlatform]:
    async with platform_at(peer, MERCHANT) as it:
        yield it


def changes_to(peer: AlipayPeer, certificate: x509.Certificate, *chain: x509.Certificate) -> None:
    """From now on Alipay signs with the new key, under this certificate's number."""
    peer.key = NEW_KEY
    peer.beside = {"alipay_cert_sn": certificates.number_of(certificate)}
    peer.says(DOWNLOAD, sent(certificate, *chain))


async def test_each_call_names_our_certificate_and_the_roots(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    trade = await alipay.query("T1", NOW)

    assert trade.status is TradeStatus.WAITING
    assert peer.asked[0].query["app_cert_sn"] == certificates.number_of(APP)
    assert peer.asked[0].query["alipay_root_cert_sn"] == certificates.number_of(ROOT)
    assert peer.methods() == [QUERY]


async def test_an_answer_that_names_no_certificate_is_of_the_one_we_began_with(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    peer.beside = {}

    assert (await alipay.query("T1", NOW)).status is TradeStatus.WAITING


async def test_a_new_certificate_is_fetched_once_and_kept(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    changes_to(peer, NEW)

    trades = await asyncio.gather(*(alipay.query("T1", NOW) for _ in range(5)))

    assert {trade.status for trade in trades} == {TradeStatus.WAITING}
    assert peer.methods().count(DOWNLOAD) == 1
    assert next(one for one in peer.asked if one.method == DOWNLOAD).content == {
        "alipay_cert_sn": certificates.number_of(NEW)
    }


async def test_a_certificate_out_of_its_time_is_asked_for_anew(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    peer.says(DOWNLOAD, sent(ALIPAY))

    with pytest.raises(PlatformUnavailableError):
        await alipay.query("T1", END + timedelta(seconds=1))

    assert DOWNLOAD in peer.methods()


BY_STRANGER = issued("Alipay", NEW_KEY, by="stranger")
STRANGE_ISSUER = issued("Issuer", rsa_key("stranger"), by="stranger", issuer="Root", ca=True)
NO_CA = issued("Issuer", rsa_key("app"), by="root", issuer="Root")
BY_NO_CA = issued("Alipay", NEW_KEY, by="app")
LATE = issued("Alipay", NEW_KEY, end=NOW - timedelta(seconds=1))
EARLY = issued("Alipay", NEW_KEY, begin=NOW + timedelta(seconds=1))
OURS = issued("Alipay", rsa_key("app"))


@pytest.mark.parametrize(
    ("certificate", "chain"),
    [
        pytest.param(BY_STRANGER, (), id="signed by somebody else"),
        pytest.param(BY_STRANGER, (STRANGE_ISSUER,), id="whose issuer no root knows"),
        pytest.param(BY_NO_CA, (NO_CA,), id="by one that may not issue"),
        pytest.param(LATE, (), id="not valid any more"),
        pytest.param(EARLY, (), id="not valid yet"),
        pytest.param(OURS, (), id="our own"),
    ],
)
async def test_a_certificate_that_no_root_vouches_for_proves_nothing(
    peer: AlipayPeer,
    alipay: AlipayPlatform,
    certificate: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
) -> None:
    changes_to(peer, certificate, *chain)
    peer.key = rsa_key("app") if certificate is OURS else NEW_KEY

    with pytest.raises(PlatformUnavailableError) as error:
        await alipay.query("T1", NOW)

    assert error.value.code == "BAD_ANSWER"
    assert peer.methods().count(DOWNLOAD) == gateway.ATTEMPTS_MAX


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(sent(issued("Alipay", NEW_KEY)), id="another certificate"),
        pytest.param(failed("isv.alipay-cert-not-exist"), id="no such certificate"),
        pytest.param({"alipay_cert_content": "no base64!"}, id="no base64"),
        pytest.param({"alipay_cert_content": "bm90aGluZw=="}, id="no certificate"),
        pytest.param({}, id="nothing"),
        pytest.param(http(b"", "500 Oh"), id="HTTP 500"),
        pytest.param(None, id="hangs up"),
    ],
)
async def test_without_the_certificate_an_answer_proves_nothing(
    peer: AlipayPeer, alipay: AlipayPlatform, answer: dict[str, object] | bytes | None
) -> None:
    changes_to(peer, NEW)
    peer.says(DOWNLOAD, answer)

    with pytest.raises(PlatformUnavailableError):
        await alipay.query("T1", NOW)


async def test_an_old_certificate_counts_beside_the_new_one(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    changes_to(peer, NEW)
    await alipay.query("T1", NOW)
    peer.key, peer.beside = rsa_key("platform"), {"alipay_cert_sn": certificates.number_of(ALIPAY)}

    assert (await alipay.query("T1", NOW)).status is TradeStatus.WAITING
    peer.beside = {"alipay_cert_sn": certificates.number_of(NEW)}  # its number, the old key
    with pytest.raises(PlatformUnavailableError):
        await alipay.query("T1", NOW)


def test_only_so_many_certificates_are_kept() -> None:
    keyring = Keyring(MERCHANT)
    fetched = [issued("Alipay", NEW_KEY) for _ in range(FETCHED_MAX + 2)]

    for one in fetched:
        content = base64.b64encode(pem(one).encode()).decode()
        keyring.learn(certificates.number_of(one), content, NOW)

    known = [keyring.key(certificates.number_of(one), NOW) is not None for one in fetched]
    assert known == [False, False, *[True] * FETCHED_MAX]
    assert keyring.key("", NOW) == rsa_key("platform").public_key()


PAID = {
    "app_id": "2021000000000001",
    "seller_id": "2088000000000001",
    "gmt_payment": "2026-05-24 09:59:58",
    "out_trade_no": "T1",
    "total_amount": "88.80",
    "trade_no": "2026052422001400001234567890",
    "trade_status": "TRADE_SUCCESS",
}


def notice(key: RSAPrivateKey, **beside: str) -> bytes:
    """A notice signed by a key; what is `beside` is not."""
    content = "&".join(f"{field}={value}" for field, value in sorted(PAID.items()))
    sign = signing.sign(key, content.encode())
    return urlencode(PAID | {"sign_type": "RSA2", "sign": sign} | beside).encode()


@pytest.mark.parametrize("named", [True, False])
async def test_a_notice_by_a_new_certificate_counts_when_it_comes_again(
    peer: AlipayPeer, alipay: AlipayPlatform, *, named: bool
) -> None:
    number = certificates.number_of(NEW)
    body = notice(NEW_KEY, **({"alipay_cert_sn": number} if named else {}))
    first = alipay.parse_notice({}, notice(rsa_key("platform")), NOW)
    changes_to(peer, NEW)
    for _ in range(5):
        with pytest.raises(NoticeRejectedError):
            alipay.parse_notice({}, body, NOW)
    assert not peer.asked  # to read a notice sends nothing; what it made us ask comes after
    await peer.wait_for(DOWNLOAD)
    await alipay.query("T1", NOW)

    again = alipay.parse_notice({}, body, NOW)

    assert (again.trade, again.digest) == (first.trade, first.digest)
    assert peer.methods().count(QUERY) == 2


async def test_forged_notices_make_one_call_a_minute(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    for seconds in range(0, 61, 10):
        with pytest.raises(NoticeRejectedError):
            alipay.parse_notice({}, notice(rsa_key("stranger")), NOW + timedelta(seconds=seconds))
        await peer.wait_for(QUERY)
    await peer.wait_for(QUERY, 2)

    assert peer.methods() == [QUERY, QUERY]


async def test_no_notice_counts_by_a_certificate_out_of_its_time(alipay: AlipayPlatform) -> None:
    for moment in (BEGIN - timedelta(seconds=1), END + timedelta(seconds=1)):
        with pytest.raises(NoticeRejectedError):
            alipay.parse_notice({}, notice(rsa_key("platform")), moment)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    curve = ec.generate_private_key(ec.SECP256R1())
    by_curve = (
        x509.CertificateBuilder()
        .subject_name(name("Root"))
        .issuer_name(name("Root"))
        .public_key(curve.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(curve, SHA256())
    )
    for file, text in {
        "app.pem": private_pem(rsa_key("app")),
        "alipay.pem": merchant().alipay_public_key_pem,
        "app.crt": pem(APP),
        "alipay.crt": pem(ALIPAY, ISSUER),
        "alone.crt": pem(ALIPAY),
        "root.crt": pem(by_curve, ROOT),
        "curve.crt": pem(by_curve),
        "strange.crt": pem(BY_STRANGER, STRANGE_ISSUER),
        "ours.crt": pem(OURS, ISSUER),
        "broken.crt": pem(ALIPAY).replace("MII", "MIJ", 1),
        "words.txt": "secret words",
    }.items():
        (tmp_path / file).write_text(text, encoding="ascii")
        (tmp_path / file).chmod(0o600)
    return tmp_path


CERTIFICATES = {
    "app_cert_file": "app.crt",
    "alipay_cert_file": "alipay.crt",
    "alipay_root_cert_file": "root.crt",
}


def load(files: Path, settings: dict[str, str]) -> config.AlipayMerchant:
    paths = {setting: files / file for setting, file in settings.items()}
    return config.load(
        app_id="2021000000000001",
        seller_id="2088000000000001",
        private_key_file=files / "app.pem",
        **paths,
    )


@pytest.mark.parametrize("alipay_cert", ["alipay.crt", "alone.crt"])
def test_a_merchant_is_loaded_with_its_certificates(files: Path, alipay_cert: str) -> None:
    loaded = load(files, CERTIFICATES | {"alipay_cert_file": alipay_cert})

    assert Keyring(loaded).names["alipay_root_cert_sn"] == certificates.number_of(ROOT)
    assert "BEGIN" not in repr(loaded)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({}, ["alipay_public_key_file"], id="neither way"),
        pytest.param(
            CERTIFICATES | {"alipay_public_key_file": "alipay.pem"},
            ["app_cert_file", "alipay_cert_file", "alipay_root_cert_file"],
            id="both ways",
        ),
        pytest.param(
            {"app_cert_file": "app.crt"},
            ["alipay_cert_file", "alipay_root_cert_file"],
            id="a third of a way",
        ),
        pytest.param(
            {"app_cert_file": "words.txt", "alipay_cert_file": "absent.crt"},
            ["alipay_root_cert_file", "app_cert_file", "alipay_cert_file"],
            id="all at once",
        ),
        pytest.param(
            CERTIFICATES | {"app_cert_file": "alone.crt"}, ["app_cert_file"], id="not our key's"
        ),
        pytest.param(
            CERTIFICATES | {"alipay_cert_file": "ours.crt"}, ["alipay_cert_file"], id="our own"
        ),
        pytest.param(
            CERTIFICATES | {"alipay_cert_file": "strange.crt"},
            ["alipay_cert_file"],
            id="of another root",
        ),
        pytest.param(
            CERTIFICATES | {"alipay_cert_file": "broken.crt"}, ["alipay_cert_file"], id="broken"
        ),
        pytest.param(
            CERTIFICATES | {"alipay_cert_file": "curve.crt"}, ["alipay_cert_file"], id="no RSA"
        ),
        pytest.param(
            CERTIFICATES | {"alipay_root_cert_file": "curve.crt"},
            ["alipay_root_cert_file"],
            id="no root of RSA",
        ),
        pytest.param(
            CERTIFICATES | {"alipay_root_cert_file": "app.pem"},
            ["alipay_root_cert_file"],
            id="a key for a root",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    files: Path, settings: dict[str, str], named: list[str]
) -> None:
    with pytest.raises(MerchantConfigError) as error:
        load(files, settings)

    assert [setting for setting, _ in error.value.problems] == named
    assert "secret words" not in error.value.detail
