"""Certificates at Alipay: their numbers there, and who vouches for one.

A number is not the certificate's own: Alipay takes the MD5 over issuer and serial
(opendocs.alipay.com/common/057k53), as its SDKs do: the issuer by RFC 2253, the last part first.
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from payments.alipay.signing import KEY_BITS_MIN
from payments.merchant_settings import refuse

CHAIN_MAX = 8

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_RSA_SIGNATURES = "1.2.840.113549.1.1."
_RSA_SIGNATURES_DER = bytes.fromhex("2a864886f70d0101")
_HASHES = (SHA256, SHA384, SHA512)
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


def read_chain(text: str, setting: str) -> Sequence[x509.Certificate]:
    """A certificate and who issued it, in order; raises MerchantConfigError."""
    chain = _read(text, setting)
    if not chain:
        refuse(setting, "holds no certificate (PEM)")
    key_of(chain[0], setting)
    return chain


def read_roots(text: str, setting: str) -> Sequence[x509.Certificate]:
    """The certificates signed by RSA among the roots; raises MerchantConfigError."""
    roots = [one for one in _read(text, setting) if _is_rsa(one)]
    if not roots:
        refuse(setting, "holds no certificate (PEM) that is signed by RSA")
    return roots


def key_of(certificate: x509.Certificate, setting: str) -> RSAPublicKey:
    """The RSA key that a certificate is for; raises MerchantConfigError."""
    try:
        key = certificate.public_key()
    except _UNREADABLE:
        refuse(setting, "is for a key that cannot be read")
    if not isinstance(key, RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        refuse(setting, f"is not for an RSA key of {KEY_BITS_MIN} bits or more")
    return key


def number_of(certificate: x509.Certificate) -> str:
    """The certificate's number at Alipay."""
    named = f"{certificate.issuer.rfc4514_string()}{certificate.serial_number}"
    return hashlib.md5(named.encode("utf-8"), usedforsecurity=False).hexdigest()


def number_of_roots(roots: Sequence[x509.Certificate]) -> str:
    """The number of a file of roots."""
    return "_".join(number_of(one) for one in roots)


def check_issued(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime | None = None,
) -> None:
    """Raise ValueError unless a root vouches for chain[0]; with `now`, by what is valid then."""
    certificate, others = chain[0], list(chain[1:CHAIN_MAX])
    while True:
        _check_valid(certificate, now)
        root = next((one for one in roots if _issued(certificate, one)), None)
        if root is not None:
            _check_valid(root, now)
            return
        issuer = next((one for one in others if _is_ca(one) and _issued(certificate, one)), None)
        if issuer is None:
            raise ValueError("no root vouches for the certificate")
        others.remove(issuer)
        certificate = issuer


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is within its time."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _check_valid(certificate: x509.Certificate, now: datetime | None) -> None:
    if now is not None and not is_valid(certificate, now):
        raise ValueError("a certificate is not valid now")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed it, over a hash that still proves something."""
    try:
        certificate.verify_directly_issued_by(issuer)
        return isinstance(certificate.signature_hash_algorithm, _HASHES)
    except (*_UNREADABLE, InvalidSignature):
        return False


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return False


def _is_rsa(certificate: x509.Certificate) -> bool:
    return certificate.signature_algorithm_oid.dotted_string.startswith(_RSA_SIGNATURES)


def _read(text: str, setting: str) -> list[x509.Certificate]:
    """All that can be read. Alipay's file of roots begins with one for SM2 that cannot."""
    found = []
    for block in _BLOCK.findall(text):
        try:
            der = b64decode("".join(block.split()), validate=True)
        except ValueError:
            refuse(setting, "holds a certificate that is no base64")
        try:
            found.append(x509.load_der_x509_certificate(der))
        except _UNREADABLE:
            if _RSA_SIGNATURES_DER in der:
                refuse(setting, "holds a certificate that cannot be read")
    return found
