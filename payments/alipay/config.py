"""A merchant at Alipay: ids and keys, checked once, never printed.

Alipay knows two ways to know each other: by public keys, or by certificates that it issues.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from payments.alipay import certificates, signing
from payments.contract import MerchantConfigError
from payments.merchant_settings import Problems, checked_key, refuse

ID_LENGTH_MAX = 32
PRIVATE_KEY_SETTING = "private_key_file"
PUBLIC_KEY_SETTING = "alipay_public_key_file"
APP_CERT_SETTING = "app_cert_file"
ALIPAY_CERT_SETTING = "alipay_cert_file"
ROOT_CERT_SETTING = "alipay_root_cert_file"
_ALL_CERTS = f"{APP_CERT_SETTING}, {ALIPAY_CERT_SETTING} and {ROOT_CERT_SETTING}"


@dataclass(frozen=True, slots=True)
class AlipayMerchant:
    """Our app (its private key signs) and what verifies: Alipay's public key, or certificates."""

    app_id: str
    seller_id: str
    private_key_pem: str = field(repr=False)
    alipay_public_key_pem: str = field(default="", repr=False)
    app_cert_pem: str = field(default="", repr=False)
    alipay_cert_pem: str = field(default="", repr=False)
    alipay_root_cert_pem: str = field(default="", repr=False)


def load(
    *,
    app_id: str,
    seller_id: str,
    private_key_file: Path,
    alipay_public_key_file: Path | None = None,
    app_cert_file: Path | None = None,
    alipay_cert_file: Path | None = None,
    alipay_root_cert_file: Path | None = None,
) -> AlipayMerchant:
    """Read the keys and prove that they can be used; MerchantConfigError names all faults."""
    problems = Problems()
    problems.take(lambda: _check_id(app_id, "app_id"))
    problems.take(lambda: _check_id(seller_id, "seller_id"))
    private = problems.take(
        lambda: checked_key(PRIVATE_KEY_SETTING, private_key_file, signing.private_key, secret=True)
    )
    given = {
        PUBLIC_KEY_SETTING: alipay_public_key_file,
        APP_CERT_SETTING: app_cert_file,
        ALIPAY_CERT_SETTING: alipay_cert_file,
        ROOT_CERT_SETTING: alipay_root_cert_file,
    }
    problems.found += _misfits(given)
    texts = {
        name: problems.take(lambda name=name, path=path: _public_text(name, path))  # type: ignore[misc]  # bound now
        for name, path in given.items()
        if path is not None
    }
    if private is None or problems.found:
        raise MerchantConfigError(*problems.found)
    merchant = AlipayMerchant(
        app_id,
        seller_id,
        private,
        alipay_public_key_pem=texts.get(PUBLIC_KEY_SETTING) or "",
        app_cert_pem=texts.get(APP_CERT_SETTING) or "",
        alipay_cert_pem=texts.get(ALIPAY_CERT_SETTING) or "",
        alipay_root_cert_pem=texts.get(ROOT_CERT_SETTING) or "",
    )
    _check_fit(merchant)
    return merchant


def _misfits(given: Mapping[str, Path | None]) -> list[tuple[str, str]]:
    """Neither way, both ways, or half of one."""
    missing = [name for name, path in given.items() if path is None]
    if PUBLIC_KEY_SETTING not in missing:
        return [
            (name, f"does not go with {PUBLIC_KEY_SETTING}: one way only")
            for name in given
            if name not in missing and name != PUBLIC_KEY_SETTING
        ]
    if len(missing) == len(given):
        return [(PUBLIC_KEY_SETTING, f"is required, or else {_ALL_CERTS}")]
    return [
        (name, f"is required: certificates are {_ALL_CERTS}")
        for name in missing
        if name != PUBLIC_KEY_SETTING
    ]


def _public_text(setting: str, path: Path) -> str:
    parse = {PUBLIC_KEY_SETTING: signing.public_key, ROOT_CERT_SETTING: certificates.read_roots}
    return checked_key(setting, path, parse.get(setting, certificates.read_chain), secret=False)


def _check_fit(merchant: AlipayMerchant) -> None:
    """What the files say of each other; raises MerchantConfigError."""
    ours = signing.private_key(merchant.private_key_pem, PRIVATE_KEY_SETTING).public_key()
    if merchant.alipay_public_key_pem:
        if ours == signing.public_key(merchant.alipay_public_key_pem, PUBLIC_KEY_SETTING):
            refuse(PUBLIC_KEY_SETTING, "is the app's own public key; Alipay's is needed")
        return
    problems = Problems()
    app = certificates.read_chain(merchant.app_cert_pem, APP_CERT_SETTING)
    alipay = certificates.read_chain(merchant.alipay_cert_pem, ALIPAY_CERT_SETTING)
    roots = certificates.read_roots(merchant.alipay_root_cert_pem, ROOT_CERT_SETTING)
    if certificates.key_of(app[0], APP_CERT_SETTING) != ours:
        problems.found.append((APP_CERT_SETTING, f"is not for the key of {PRIVATE_KEY_SETTING}"))
    if certificates.key_of(alipay[0], ALIPAY_CERT_SETTING) == ours:
        problems.found.append((ALIPAY_CERT_SETTING, "is the app's own; Alipay's is needed"))
    elif len(alipay) > 1:  # a certificate alone does not say who is between it and the roots
        try:
            certificates.check_issued(alipay, roots)
        except ValueError:
            problems.found.append(
                (ALIPAY_CERT_SETTING, f"is not vouched for by {ROOT_CERT_SETTING}")
            )
    if problems.found:
        raise MerchantConfigError(*problems.found)


def _check_id(value: str, setting: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) <= ID_LENGTH_MAX):
        refuse(setting, f"is not made of 1 to {ID_LENGTH_MAX} digits")
