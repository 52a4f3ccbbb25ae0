"""Certificates at the sandbox: handed out, changed under way, both kinds of proof at once."""

import json
from base64 import b64decode
from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate, load_pem_x509_certificate

from payments.contract import Platform
from payments.sandbox.certificates import alipay_sn, ensure_certificates
from payments.sandbox.control import ControlError
from payments.sandbox.keys import SandboxKeys
from tests.payments.peer import Peer
from tests.payments.shops import Yard

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY


def key_of(certificate: Certificate) -> RSAPublicKey:
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    return key


async def handed_out(yard: Yard) -> dict[str, Certificate]:
    """WeChat Pay's certificates as a merchant gets them, by serial number."""
    answer = await yard.wechat.send("GET", "/v3/certificates")
    found = {}
    for entry in answer.json()["data"]:
        sealed = entry["encrypt_certificate"]
        pem = AESGCM(yard.sandbox.keys.apiv3_key.encode()).decrypt(
            sealed["nonce"].encode(),
            b64decode(sealed["ciphertext"]),
            sealed["associated_data"].encode(),
        )
        certificate = load_pem_x509_certificate(pem)
        assert entry["serial_no"] == f"{certificate.serial_number:040X}"
        assert entry["effective_time"] < "2026-05-24" < entry["expire_time"]
        found[entry["serial_no"]] = certificate
    return found


def verify(headers: dict[str, str], body: bytes, key: RSAPublicKey) -> None:
    message = f"{headers['wechatpay-timestamp']}\n{headers['wechatpay-nonce']}\n".encode()
    signature = b64decode(headers["wechatpay-signature"])
    key.verify(signature, message + body + b"\n", PKCS1v15(), SHA256())


async def test_in_public_key_mode_there_are_no_certificates(yard: Yard) -> None:
    answer = await yard.wechat.send("GET", "/v3/certificates")
    assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_EXISTS")


async def test_a_new_certificate_is_handed_out_before_it_signs(
    yard: Yard, peer: Peer, number: str
) -> None:
    yard.control.sign_with(WECHAT, "cert1")
    assert len(await handed_out(yard)) == 1
    told = await yard.http.post(
        "/control/signing",
        json={
            "platform": "wechat",
            "names": ["cert2"],
            "at": (yard.clock.at + timedelta(hours=1)).isoformat(),
        },
    )
    known = await handed_out(yard)
    await yard.wechat.paid(f"{number}a", door=f"{peer.url}/a")
    await yard.sandbox.quiet()
    yard.pass_time(hours=1)
    await yard.wechat.paid(f"{number}b", door=f"{peer.url}/b")
    await yard.sandbox.quiet()

    assert told.status_code == 204
    old, new = (yard.sandbox.signing.certificates.wechat[name] for name in ("cert1", "cert2"))
    assert set(known) == {old.serial, new.serial}
    assert [one.headers["wechatpay-serial"] for one in peer.received] == [old.serial, new.serial]
    for received in peer.received:
        serial = received.headers["wechatpay-serial"]
        verify(received.headers, received.body, key_of(known[serial]))


async def test_public_key_and_certificate_arrive_both_at_once(yard: Yard) -> None:
    yard.control.sign_with(WECHAT, "public_key", "cert1")
    answers = [await yard.wechat.send("GET", "/v3/certificates") for _ in range(4)]
    issued = yard.sandbox.signing.certificates.wechat["cert1"]
    keys = {
        yard.sandbox.keys.platform_public_key_id: yard.sandbox.keys.wechat_platform.public_key(),
        issued.serial: key_of(issued.certificate),
    }
    for answer in answers:
        serial = answer.headers["wechatpay-serial"]
        verify(dict(answer.headers), answer.content, keys[serial])
    assert {answer.headers["wechatpay-serial"] for answer in answers} == set(keys)


def in_cert_mode(yard: Yard) -> dict[str, str]:
    own = yard.sandbox.signing.certificates
    return {
        "app_cert_sn": alipay_sn(own.alipay_app),
        "alipay_root_cert_sn": alipay_sn(own.alipay_root),
    }


async def test_alipay_names_its_certificate_to_who_names_its_own(yard: Yard, number: str) -> None:
    answer = await yard.alipay.raw(
        "alipay.trade.query", {"out_trade_no": number}, **in_cert_mode(yard)
    )
    certificate = yard.sandbox.signing.certificates.alipay["cert1"].certificate
    # cert1 is over the key of key mode: named once it signs.
    assert json.loads(answer.text)["alipay_cert_sn"] == alipay_sn(certificate)
    yard.alipay.prove(answer.text, key_of(certificate))
    plain = await yard.alipay.raw("alipay.trade.query", {"out_trade_no": number})
    assert "alipay_cert_sn" not in json.loads(plain.text)


async def test_alipay_changes_its_certificate_and_hands_the_new_one_out(
    yard: Yard, peer: Peer, number: str
) -> None:
    yard.control.sign_with(ALIPAY, "cert2", at=yard.clock.at + timedelta(hours=1))
    method, asked, mode = "alipay.trade.query", {"out_trade_no": number}, in_cert_mode(yard)
    before = await yard.alipay.raw(method, asked, **mode)
    yard.pass_time(hours=1)
    after = await yard.alipay.raw(method, asked, **mode)
    sn = json.loads(after.text)["alipay_cert_sn"]
    got = await yard.alipay.raw(
        "alipay.open.app.alipaycert.download", {"alipay_cert_sn": sn}, **mode
    )
    content = json.loads(got.text)["alipay_open_app_alipaycert_download_response"]
    new = load_pem_x509_certificate(b64decode(content["alipay_cert_content"]))

    assert json.loads(before.text)["alipay_cert_sn"] != sn
    assert alipay_sn(new) == sn
    yard.alipay.prove(after.text, key_of(new))
    with pytest.raises(InvalidSignature):
        yard.alipay.prove(before.text, key_of(new))
    own = yard.sandbox.signing.certificates
    new.verify_directly_issued_by(own.alipay_root)
    own.alipay_app.verify_directly_issued_by(own.alipay_root)
    assert key_of(own.alipay_app) == yard.sandbox.keys.alipay_app.public_key()


@pytest.mark.parametrize(
    ("changes", "sub_code"),
    [
        ({"app_cert_sn": "0" * 32}, "isv.invalid-app-cert-sn"),
        ({"app_cert_sn": ""}, "isv.invalid-app-cert-sn"),
        ({"alipay_root_cert_sn": "0" * 32}, "isv.invalid-alipay-root-cert-sn"),
    ],
)
async def test_alipay_knows_the_certificates_it_is_told(
    yard: Yard, changes: dict[str, str], sub_code: str
) -> None:
    mode = {name: sn for name, sn in (in_cert_mode(yard) | changes).items() if sn}
    answer = await yard.alipay.raw("alipay.trade.query", {"out_trade_no": "T1"}, **mode)
    assert json.loads(answer.text)["alipay_trade_query_response"]["sub_code"] == sub_code


async def test_alipay_hands_out_its_own_only(yard: Yard) -> None:
    answer = await yard.alipay.call("alipay.open.app.alipaycert.download", alipay_cert_sn="0")
    assert answer["sub_code"] == "isv.invalid-alipay-cert-sn"


@pytest.mark.parametrize("names", [[], ["cert3"], ["cert1", "nobody"]])
def test_nobody_else_signs(yard: Yard, names: list[str]) -> None:
    with pytest.raises(ControlError):
        yard.control.sign_with(WECHAT, *names)


def test_certificates_are_made_once_and_only_when_asked_for(keys: SandboxKeys) -> None:
    first, again = ensure_certificates(keys), ensure_certificates(keys)
    for name in ("cert1", "cert2"):
        assert again.wechat[name].certificate == first.wechat[name].certificate
        assert again.alipay[name].certificate == first.alipay[name].certificate
    for name in ("wechat_platform_cert1", "alipay_root_cert", "alipay_app_cert", "alipay_cert1"):
        load_pem_x509_certificate((keys.folder / f"{name}.pem").read_bytes())
