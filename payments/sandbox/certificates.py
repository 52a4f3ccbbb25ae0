"""Certificates of both platforms: made when first asked for, in the folder of the keys."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateBuilder,
    Name,
    NameAttribute,
    load_pem_x509_certificate,
    random_serial_number,
)
from cryptography.x509.oid import NameOID

from payments.sandbox.keys import SandboxKeys, ensure_file, ensure_private

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2046, 1, 1, tzinfo=UTC)
NAMES = ("cert1", "cert2")  # of each platform; the first is in use where any is


@dataclass(frozen=True, slots=True)
class Issued:
    """A platform's certificate with the key that only the platform has."""

    certificate: Certificate
    key: RSAPrivateKey

    @property
    def serial(self) -> str:
        """Its serial number, as WeChat Pay writes it."""
        return f"{self.certificate.serial_number:040X}"

    @property
    def pem(self) -> bytes:
        """The certificate as it is handed out."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Certificates:
    """All of them; the merchant finds them as files in the keys' folder.

    wechat_platform_cert1.pem, wechat_platform_cert2.pem; alipay_root_cert.pem,
    alipay_app_cert.pem, alipay_cert1.pem (over the key of its key mode), alipay_cert2.pem.
    """

    wechat: Mapping[str, Issued]
    alipay: Mapping[str, Issued]
    alipay_root: Certificate
    alipay_app: Certificate


def ensure_certificates(keys: SandboxKeys) -> Certificates:
    """The certificates beside the keys, made where absent."""
    folder = keys.folder
    wechat_root = _Issuer("Tenpay.com Root CA", ensure_private(folder / "wechat_root_private.pem"))
    root_key = ensure_private(folder / "alipay_root_private.pem")
    root = _Issuer("Ant Financial Certification Authority R1", root_key)
    alipay_keys = {
        "cert1": keys.alipay_platform,
        "cert2": ensure_private(folder / "alipay_cert2_private.pem"),
    }
    return Certificates(
        wechat={
            name: _issued(
                folder / f"wechat_platform_{name}.pem",
                wechat_root,
                ensure_private(folder / f"wechat_platform_{name}_private.pem"),
                "Tenpay.com sign",
            )
            for name in NAMES
        },
        alipay={
            name: _issued(folder / f"alipay_{name}.pem", root, key, "支付宝(中国)网络技术有限公司")
            for name, key in alipay_keys.items()
        },
        alipay_root=_certificate(
            folder / "alipay_root_cert.pem", root, root_key.public_key(), root.name, is_ca=True
        ),
        alipay_app=_certificate(
            folder / "alipay_app_cert.pem", root, keys.alipay_app.public_key(), keys.alipay_app_id
        ),
    )


def alipay_sn(certificate: Certificate) -> str:
    """What Alipay calls a certificate's SN: a hash over its issuer and its serial number."""
    named = f"{certificate.issuer.rfc4514_string()}{certificate.serial_number}"
    return hashlib.md5(named.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: str
    key: RSAPrivateKey


def _issued(path: Path, issuer: _Issuer, key: RSAPrivateKey, name: str) -> Issued:
    return Issued(_certificate(path, issuer, key.public_key(), name), key)


def _certificate(
    path: Path, issuer: _Issuer, key: RSAPublicKey, name: str, *, is_ca: bool = False
) -> Certificate:
    def make() -> bytes:
        built = (
            CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer.name))
            .public_key(key)
            .serial_number(random_serial_number())
            .not_valid_before(BEGINS)
            .not_valid_after(ENDS)
            .add_extension(BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        return built.sign(issuer.key, SHA256()).public_bytes(Encoding.PEM)

    return load_pem_x509_certificate(ensure_file(path, make))


def _name(common: str) -> Name:
    return Name(
        [
            NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            NameAttribute(NameOID.ORGANIZATION_NAME, "MallWatt Sandbox"),
            NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
