"""WeChat Pay's certificates: which are believed, when they are asked for, and that it is rare."""

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from payments.contract import (
    NoticeRejectedError,
    PlatformUnavailableError,
    RefundRequest,
    TradeStatus,
)
from payments.sandbox.keys import SandboxKeys
from payments.wechat import calls
from payments.wechat.certificates import TASK, certificates_from_answer, valid
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant
from tests.fakes.keys import rsa_key
from tests.payments.peer import Peer, http_answer
from tests.payments.test_wechat_client import NO, WAITING
from tests.payments.wechat_notices import APIV3_KEY, JSON, encoded
from tests.payments.wechat_wire import NOW, refused, signed

VECTOR = Path(__file__).parents[1] / "vectors" / "wechatpay" / "certificates.json"
PATH = "/v3/certificates"
SERIAL, NEXT = "3D0F6B1C9A7E", "4B00C0FFEE"
OLD_KEY, NEW_KEY = rsa_key("platform"), rsa_key("platform's next")


def certificate(
    key: Any,
    serial: str = SERIAL,
    *,
    start: datetime = NOW - timedelta(days=1),
    days: int = 365,
    signer: RSAPrivateKey = OLD_KEY,
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com sign")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int(serial, 16))
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM).decode()


def listed(pem: str, apiv3_key: str, serial: str = SERIAL, **changes: object) -> dict[str, object]:
    nonce = secrets.token_hex(6)
    sealed = AESGCM(apiv3_key.encode()).encrypt(nonce.encode(), pem.encode(), b"certificate")
    return {
        "serial_no": serial,
        "effective_time": "2026-05-23T10:00:00+08:00",
        "expire_time": "2027-05-23T10:00:00+08:00",
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": b64encode(sealed).decode(),
        }
        | changes,
    }


def handed_out(
    keys: SandboxKeys,
    *serials: tuple[str, RSAPrivateKey],
    by: RSAPrivateKey = OLD_KEY,
    name: str = SERIAL,
    at: datetime = NOW,
) -> bytes:
    """The platform's answer: certificates of these serials, signed by one key under one name."""
    data = [
        listed(certificate(key, serial), keys.apiv3_key, serial)
        for serial, key in serials or [(SERIAL, OLD_KEY)]
    ]
    return signed({"data": data}, by, serial=name, at=at)


@pytest.fixture
def without_key(merchant: WeChatMerchant) -> WeChatMerchant:
    """A merchant that has no public key of the platform."""
    return replace(
        merchant,
        platform_public_key_pem=None,
        platform_public_key_id=None,
        platform_certificates=True,
    )


@pytest_asyncio.fixture
async def platform(
    peer: Peer, without_key: WeChatMerchant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WeChatPlatform]:
    """A client of the peer by certificates alone, with pauses too short to notice."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    it = build(without_key, peer.url)
    yield it
    await it.aclose()


def asked(peer: Peer, path: str = PATH) -> int:
    return [request.target for request in peer.received].count(path)


def under_way() -> list[asyncio.Task[object]]:
    """What asks for certificates in the background."""
    return [task for task in asyncio.all_tasks() if task.get_name() == TASK]


async def settled() -> None:
    """What was asked for in the background has come."""
    await asyncio.gather(*under_way())


async def test_certificates_are_fetched_once_for_many_calls(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.pages[PATH] = handed_out(keys)
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL))

    trades = await asyncio.gather(*(platform.query(NO, NOW) for _ in range(5)))
    later = await platform.query(NO, NOW)

    assert {one.status for one in (*trades, later)} == {TradeStatus.WAITING}
    assert asked(peer) == 1
    assert all("wechatpay-serial" not in request.headers for request in peer.received)


@pytest.mark.parametrize("flaw", ["stranger", "key id", "no signature", "old", "apiv3"])
async def test_certificates_that_do_not_prove_themselves_are_none(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, flaw: str
) -> None:
    other = replace(keys, apiv3_key="0" * 32)
    peer.pages[PATH] = {
        "stranger": handed_out(keys, by=rsa_key("stranger")),
        "key id": handed_out(keys, name="PUB_KEY_ID_0119000001092026"),
        "no signature": http_answer(200, json.dumps({"data": []}).encode()),
        "old": handed_out(keys, at=NOW - timedelta(minutes=6)),
        "apiv3": handed_out(other),
    }[flaw]
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL))
    with pytest.raises(PlatformUnavailableError) as error:
        await platform.query(NO, NOW)
    assert error.value.code == "NO_CERTIFICATE"
    assert {request.target for request in peer.received} == {PATH}  # nothing else was sent


async def test_a_merchant_for_whom_there_are_none_is_no_unknown_order(
    peer: Peer, platform: WeChatPlatform
) -> None:
    """The platform's words for it are those for an order that it does not know."""
    peer.pages[PATH] = refused(404, "RESOURCE_NOT_EXISTS", "无可用的平台证书")
    request = RefundRequest(NO, "R20260524000001", 1, 1, "", "https://mall.example/notify")
    for call in (
        platform.query(NO, NOW),
        platform.query_refund(NO, "R20260524000001", NOW),
        platform.refund(request, NOW),
        platform.close(NO, NOW),
        platform.fetch_bill(NOW.date(), NOW),
    ):
        with pytest.raises(PlatformUnavailableError, match="无可用的平台证书") as error:
            await call
        assert error.value.code == "NO_CERTIFICATE"


@pytest.mark.parametrize(
    ("pem", "changes", "serial"),
    [
        pytest.param("no certificate", {}, SERIAL, id="no certificate"),
        pytest.param(certificate(ec.generate_private_key(ec.SECP256R1())), {}, SERIAL, id="curve"),
        pytest.param(certificate(OLD_KEY), {}, NEXT, id="another serial"),
        pytest.param(certificate(OLD_KEY), {"algorithm": "AEAD_SM4_GCM"}, SERIAL, id="algorithm"),
        pytest.param(certificate(OLD_KEY), {"nonce": "000000000000"}, SERIAL, id="nonce"),
        pytest.param(certificate(OLD_KEY), {"nonce": ""}, SERIAL, id="no nonce"),
        pytest.param(certificate(OLD_KEY), {"ciphertext": "密"}, SERIAL, id="ciphertext"),
        pytest.param(certificate(OLD_KEY), {}, "../x", id="odd serial"),
    ],
)
def test_a_certificate_of_another_kind_spoils_the_answer(
    keys: SandboxKeys, pem: str, changes: dict[str, object], serial: str
) -> None:
    content = json.dumps({"data": [listed(pem, keys.apiv3_key, serial, **changes)]})
    with pytest.raises(PlatformUnavailableError, match="another form"):
        certificates_from_answer(content.encode(), keys.apiv3_key)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"data": []}', b'{"data": 7}', b"[" * 9999])
def test_an_answer_of_another_form_brings_none(content: bytes) -> None:
    with pytest.raises(PlatformUnavailableError, match="another form"):
        certificates_from_answer(content, "0" * 32)


@given(
    data=JSON | st.lists(st.fixed_dictionaries({"serial_no": JSON, "encrypt_certificate": JSON}))
)
def test_whatever_is_answered_brings_certificates_or_none(data: object) -> None:
    with pytest.raises(PlatformUnavailableError):
        certificates_from_answer(encoded({"data": data}), APIV3_KEY)


@pytest.mark.parametrize(
    ("now", "counts"),
    [
        (NOW - timedelta(days=1, seconds=1), False),
        (NOW - timedelta(days=1), True),
        (NOW + timedelta(days=364), True),
        (NOW + timedelta(days=364, seconds=1), False),
    ],
)
def test_a_certificate_counts_while_it_is_valid(
    keys: SandboxKeys, now: datetime, counts: bool
) -> None:
    content = json.dumps({"data": [listed(certificate(OLD_KEY), keys.apiv3_key)]}).encode()
    found = certificates_from_answer(content, keys.apiv3_key)
    assert (SERIAL in valid(found, now)) == counts


async def test_a_change_of_certificates_under_way_costs_one_more_try(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", 0.2)
    peer.pages[PATH] = handed_out(keys)
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL))
    await platform.query(NO, NOW)

    later = NOW + timedelta(hours=1)
    both = (SERIAL, OLD_KEY), (NEXT, NEW_KEY)
    peer.pages[PATH] = handed_out(keys, *both, by=NEW_KEY, name=NEXT, at=later)
    peer.answers(signed(WAITING, NEW_KEY, serial=NEXT, at=later))

    assert (await platform.query(NO, later)).status is TradeStatus.WAITING
    assert asked(peer) == 2
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL, at=later))
    assert (await platform.query(NO, later)).status is TradeStatus.WAITING


def probe(key: RSAPrivateKey = OLD_KEY, serial: str = SERIAL, at: datetime = NOW) -> dict[str, str]:
    """The headers of a notice whose body is `{}`."""
    answer = signed({}, key, serial=serial, at=at).decode().split("\r\n\r\n")[0]
    pairs = (line.split(": ", 1) for line in answer.split("\r\n")[1:])
    return {name.lower(): value for name, value in pairs}


async def test_reading_a_notice_sends_nothing_and_the_next_delivery_is_read(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.pages[PATH] = handed_out(keys)
    with pytest.raises(NoticeRejectedError, match="serial is unknown"):
        platform.parse_notice(probe(), b"{}", NOW)
    assert peer.received == []

    await settled()
    with pytest.raises(NoticeRejectedError, match="another form"):  # of `{}`: the signature is good
        platform.parse_notice(probe(), b"{}", NOW)
    assert asked(peer) == 1


async def test_serials_that_nobody_knows_make_one_request_a_minute(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.pages[PATH] = handed_out(keys)
    for number in range(50):
        with pytest.raises(NoticeRejectedError):
            platform.parse_notice(probe(serial=f"{number:040X}"), b"{}", NOW)
        await asyncio.sleep(0)
    await settled()
    for number in range(50):
        with pytest.raises(NoticeRejectedError):
            platform.parse_notice(
                probe(serial=f"{number:040X}"), b"{}", NOW + timedelta(seconds=59)
            )
    await settled()
    assert asked(peer) == 1
    with pytest.raises(NoticeRejectedError):
        platform.parse_notice(probe(serial=NEXT), b"{}", NOW + timedelta(seconds=60))
    await settled()
    assert asked(peer) == 2


async def test_a_clock_that_was_put_back_stops_no_asking(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    for hours, count in ((0, 1), (-1, 2), (-14, 3)):
        now = NOW + timedelta(hours=hours)
        peer.pages[PATH] = handed_out(keys, at=now)
        with pytest.raises(NoticeRejectedError):
            platform.parse_notice(probe(serial=NEXT, at=now), b"{}", now)
        await settled()
        assert asked(peer) == count


@pytest.mark.parametrize("serial", ["PUB_KEY_ID_0119000009999999", "", "A" * 41, "密"])
async def test_what_is_no_certificates_serial_makes_no_request(
    peer: Peer, platform: WeChatPlatform, serial: str
) -> None:
    with pytest.raises(NoticeRejectedError):
        platform.parse_notice(probe() | {"wechatpay-serial": serial}, b"{}", NOW)
    assert under_way() == []


def test_a_notice_read_outside_of_a_loop_asks_nobody(without_key: WeChatMerchant) -> None:
    with pytest.raises(NoticeRejectedError, match="serial is unknown"):
        build(without_key).parse_notice(probe(), b"{}", NOW)


async def test_certificates_are_looked_at_every_twelve_hours(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.pages[PATH] = handed_out(keys)
    for hours, count in ((0, 1), (11, 1), (12, 2), (13, 2), (24, 3)):
        now = NOW + timedelta(hours=hours)
        peer.pages[PATH] = handed_out(keys, at=now)
        peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL, at=now))
        await platform.query(NO, now)
        await settled()
        assert asked(peer) == count


async def test_key_and_certificates_count_side_by_side_while_it_changes(
    peer: Peer, merchant: WeChatMerchant, keys: SandboxKeys
) -> None:
    """The header says which of them proves an answer or a notice."""
    platform = build(replace(merchant, platform_certificates=True), peer.url)
    peer.pages[PATH] = handed_out(keys)
    peer.answers(signed(WAITING, keys.wechat_platform))
    assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING  # waits for nothing
    await settled()
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL))
    assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING
    for headers in (probe(), probe(keys.wechat_platform, keys.platform_public_key_id)):
        with pytest.raises(NoticeRejectedError, match="another form"):  # of `{}`
            platform.parse_notice(headers, b"{}", NOW)
    for headers in (probe(keys.wechat_platform), probe(OLD_KEY, keys.platform_public_key_id)):
        with pytest.raises(NoticeRejectedError, match="signature is wrong"):
            platform.parse_notice(headers, b"{}", NOW)
    assert peer.received[0].headers["wechatpay-serial"] == keys.platform_public_key_id
    await platform.aclose()


async def test_certificates_may_be_brought_by_what_is_known_already(
    peer: Peer, merchant: WeChatMerchant, keys: SandboxKeys
) -> None:
    """Who holds the key asks to be answered with it."""
    platform = build(replace(merchant, platform_certificates=True), peer.url)
    key_id = keys.platform_public_key_id
    peer.pages[PATH] = handed_out(keys, by=keys.wechat_platform, name=key_id)
    peer.answers(signed(WAITING, keys.wechat_platform))
    await platform.query(NO, NOW)
    await settled()
    peer.answers(signed(WAITING, OLD_KEY, serial=SERIAL))
    assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING
    await platform.aclose()


async def test_trouble_with_certificates_does_not_stop_a_merchant_that_has_the_key(
    peer: Peer, merchant: WeChatMerchant, keys: SandboxKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    platform = build(replace(merchant, platform_certificates=True), peer.url)
    peer.pages[PATH] = refused(404, "RESOURCE_NOT_EXISTS")
    peer.answers(signed(WAITING, keys.wechat_platform))
    for _ in range(5):
        assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING
    await settled()
    assert asked(peer) == 1  # and not with each call
    await platform.aclose()


async def test_a_client_that_is_closed_stops_asking(
    peer: Peer, without_key: WeChatMerchant
) -> None:
    platform = build(without_key, peer.url)
    peer.pages[PATH] = http_answer(503)
    with pytest.raises(NoticeRejectedError):
        platform.parse_notice(probe(), b"{}", NOW)
    assert len(under_way()) == 1
    await platform.aclose()
    assert under_way() == []


def test_the_certificates_of_the_java_sdk_are_opened() -> None:
    """Origin: tests/vectors/wechatpay/README.md."""
    vector = json.loads(VECTOR.read_text(encoding="utf-8"))
    found = certificates_from_answer(json.dumps(vector["answer"]).encode(), vector["apiv3_key"])
    [(serial, one)] = found.items()
    assert serial == "5DEA10EF55877E3CF6C33255C2E7DEFFF7E427EC"
    assert one.not_before == datetime(2023, 9, 19, 15, 15, 58, tzinfo=UTC)
    assert one.not_after == datetime(2028, 9, 17, 15, 15, 58, tzinfo=UTC)
    assert one.key.key_size == 2048
