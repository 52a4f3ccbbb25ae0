"""Certificates as Alipay makes them: a root, who issues under it, and what it issued."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.fakes.keys import rsa_key

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2028, 1, 1, tzinfo=UTC)


def name(common: str) -> x509.Name:
    """As Alipay's issuers are named."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ant Sandbox"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def issued(
    subject: str,
    key: RSAPrivateKey,
    *,
    by: str = "issuer",
    issuer: str = "Issuer",
    ca: bool = False,
    begin: datetime = BEGIN,
    end: datetime = END,
) -> x509.Certificate:
    """A certificate for `key`, signed with the key named `by`."""
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(rsa_key(by), SHA256())
    )


def pem(*certificates: x509.Certificate) -> str:
    """As a file has them."""
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


ROOT = issued("Root", rsa_key("root"), by="root", issuer="Root", ca=True, end=END + timedelta(3650))
ISSUER = issued("Issuer", rsa_key("issuer"), by="root", issuer="Root", ca=True)
APP = issued("2088-2021", rsa_key("app"))
ALIPAY = issued("Alipay", rsa_key("platform"))
