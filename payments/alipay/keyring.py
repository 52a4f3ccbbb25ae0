"""Whose signature counts, and how we name ourselves: one public key, or certificates.

In certificate mode Alipay changes its certificate without a word: an answer names the new one, and
whoever does not know it fetches it and looks who vouches for it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from payments.alipay import certificates, signing
from payments.alipay.config import (
    ALIPAY_CERT_SETTING,
    APP_CERT_SETTING,
    PUBLIC_KEY_SETTING,
    ROOT_CERT_SETTING,
    AlipayMerchant,
)
from payments.contract import MerchantConfigError

FETCHED_MAX = 8  # Alipay's certificates that are kept beside ours; they change once in years


class Keyring:
    """The keys of Alipay's that we believe: the one key, or those of its certificates."""

    def __init__(self, merchant: AlipayMerchant) -> None:
        self.names: Mapping[str, str] = {}  # what each call says of our certificates
        self._key: RSAPublicKey | None = None
        self._known: dict[str, x509.Certificate] = {}
        if merchant.alipay_public_key_pem:
            self._key = signing.public_key(merchant.alipay_public_key_pem, PUBLIC_KEY_SETTING)
            return
        app = certificates.read_chain(merchant.app_cert_pem, APP_CERT_SETTING)
        alipay = certificates.read_chain(merchant.alipay_cert_pem, ALIPAY_CERT_SETTING)
        self._roots = certificates.read_roots(merchant.alipay_root_cert_pem, ROOT_CERT_SETTING)
        self._app_key = certificates.key_of(app[0], APP_CERT_SETTING)
        self._issuers = alipay[1:]
        self._first = certificates.number_of(alipay[0])
        self._known[self._first] = alipay[0]
        self.names = {
            "app_cert_sn": certificates.number_of(app[0]),
            "alipay_root_cert_sn": certificates.number_of_roots(self._roots),
        }

    def key(self, number: str, now: datetime) -> RSAPublicKey | None:
        """The key of the certificate with this number (empty: the one we began with).

        None for one that is unknown or out of its time; in key mode always the one key.
        """
        if self._key is not None:
            return self._key
        certificate = self._known.get(number or self._first)
        if certificate is None or not certificates.is_valid(certificate, now):
            return None
        return certificates.key_of(certificate, ALIPAY_CERT_SETTING)

    def keys(self, now: datetime) -> Sequence[RSAPublicKey]:
        """The keys of all certificates that are valid now, the newest first."""
        if self._key is not None:
            return [self._key]
        found = (self.key(number, now) for number in reversed(self._known))
        return [key for key in found if key is not None]

    def learn(self, number: str, content: str, now: datetime) -> None:
        """Keep a certificate as Alipay sends it; raises ValueError unless a root vouches for it.

        Only in certificate mode; `key` never lacks one in the other.
        """
        try:
            text = base64.b64decode(content, validate=True).decode("ascii")
            chain = certificates.read_chain(text, ALIPAY_CERT_SETTING)
        except (binascii.Error, UnicodeDecodeError, MerchantConfigError) as error:
            raise ValueError("not a certificate") from error
        if certificates.number_of(chain[0]) != number:
            raise ValueError("another certificate than the one that was asked for")
        if certificates.key_of(chain[0], ALIPAY_CERT_SETTING) == self._app_key:
            raise ValueError("the app's own certificate")
        certificates.check_issued([*chain, *self._issuers], self._roots, now)
        self._keep(number, chain[0])

    def _keep(self, number: str, certificate: x509.Certificate) -> None:
        self._known[number] = certificate
        fetched = [one for one in self._known if one != self._first]
        for oldest in fetched[:-FETCHED_MAX]:
            del self._known[oldest]
