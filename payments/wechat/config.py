"""A merchant's ids and keys at WeChat Pay: read from files, checked before first use."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from payments.contract import MerchantConfigError
from payments.merchant_settings import Problems, checked_key, read_key, refuse

API_URL = "https://api.mch.weixin.qq.com"
RSA_BITS_MIN = 2048

_IDS = {
    "mchid": re.compile(r"[0-9]{1,32}", re.ASCII),
    "appid": re.compile(r"[0-9A-Za-z_-]{1,32}", re.ASCII),
    "apiv3_key": re.compile(r"[!-~]{32}", re.ASCII),
    "cert_serial": re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII),
    "platform_public_key_id": re.compile(r"[0-9A-Za-z_]{1,64}", re.ASCII),
}

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class WeChatMerchant:
    """Ids and keys, all checked: a value that exists can be used. Keys stay out of its repr."""

    mchid: str
    appid: str
    apiv3_key: str = field(repr=False)
    private_key_pem: str = field(repr=False)
    cert_serial: str
    platform_public_key_pem: str | None = field(default=None, repr=False)
    platform_public_key_id: str | None = None
    platform_certificates: bool = False  # beside the key, or instead of one

    def __post_init__(self) -> None:
        ids = {setting: getattr(self, setting) for setting in _IDS}
        problems = _misshapen(ids) + _missing(
            has_key=self.platform_public_key_pem is not None,
            has_id=self.platform_public_key_id is not None,
            uses_certificates=self.platform_certificates,
        )
        if problems:
            raise MerchantConfigError(*problems)
        ours = private_key(self.private_key_pem).public_key()
        if self.platform_keys.get(self.platform_public_key_id or "") == ours:
            refuse("platform_public_key", "is the merchant's own; the platform's is needed")

    @property
    def platform_keys(self) -> Mapping[str, RSAPublicKey]:
        """The platform's public key by its id, where the merchant has one."""
        if self.platform_public_key_pem is None or self.platform_public_key_id is None:
            return {}
        return {self.platform_public_key_id: public_key(self.platform_public_key_pem)}


def load(  # noqa: PLR0913  one for each setting
    *,
    mchid: str,
    appid: str,
    apiv3_key_file: Path,
    private_key_file: Path,
    cert_serial: str,
    platform_public_key_file: Path | None = None,
    platform_public_key_id: str | None = None,
    platform_certificates: bool | None = None,
) -> WeChatMerchant:
    """A merchant from the settings of a site file; MerchantConfigError names all faults.

    Answers and notices are proved by the platform's public key, by its certificates (True, and what
    None means without a key), or, while it changes from one to the other, by either.
    """
    if platform_certificates is None:
        platform_certificates = platform_public_key_file is None and platform_public_key_id is None
    problems = Problems()
    apiv3_key = problems.take(lambda: _apiv3_key(apiv3_key_file))
    private = problems.take(
        lambda: checked_key("private_key_file", private_key_file, private_key, secret=True)
    )
    public = problems.take(lambda: _public_pem(platform_public_key_file))
    ids = {"mchid": mchid, "appid": appid, "cert_serial": cert_serial}
    problems.found += _misshapen(ids | {"platform_public_key_id": platform_public_key_id})
    problems.found += _missing(
        has_key=platform_public_key_file is not None,
        has_id=platform_public_key_id is not None,
        uses_certificates=platform_certificates,
    )
    if apiv3_key is None or private is None or problems.found:
        raise MerchantConfigError(*problems.found)
    return WeChatMerchant(
        **ids,
        apiv3_key=apiv3_key,
        private_key_pem=private,
        platform_public_key_pem=public,
        platform_public_key_id=platform_public_key_id,
        platform_certificates=platform_certificates,
    )


def _public_pem(path: Path | None) -> str | None:
    if path is None:
        return None
    return checked_key("platform_public_key_file", path, public_key, secret=False)


def _missing(*, has_key: bool, has_id: bool, uses_certificates: bool) -> list[tuple[str, str]]:
    if has_key and not has_id:
        return [("platform_public_key_id", "is needed with platform_public_key_file")]
    if has_id and not has_key:
        return [("platform_public_key_file", "is needed with platform_public_key_id")]
    if not has_key and not uses_certificates:
        return [("platform_public_key_file", "is needed without platform_certificates")]
    return []


def _apiv3_key(path: Path) -> str:
    key = read_key("apiv3_key_file", path, secret=True).strip()
    if _IDS["apiv3_key"].fullmatch(key) is None:
        refuse("apiv3_key_file", "holds no APIv3 key (32 characters)")
    return key


def _misshapen(ids: Mapping[str, str | None]) -> list[tuple[str, str]]:
    return [
        (setting, "is not of the form that WeChat Pay gives")
        for setting, value in ids.items()
        if value is not None and _IDS[setting].fullmatch(value) is None
    ]


def private_key(pem: str, setting: str = "private_key_pem") -> RSAPrivateKey:
    """The merchant's key in a PEM text; raises MerchantConfigError."""
    key = _parse(setting, lambda: serialization.load_pem_private_key(pem.encode(), password=None))
    if not isinstance(key, RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
        refuse(setting, f"is not an RSA private key of {RSA_BITS_MIN} bits or more")
    return key


def public_key(pem: str, setting: str = "platform_public_key_pem") -> RSAPublicKey:
    """The platform's key in a PEM text; raises MerchantConfigError."""
    key = _parse(setting, lambda: serialization.load_pem_public_key(pem.encode()))
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS_MIN:
        refuse(setting, f"is not an RSA public key of {RSA_BITS_MIN} bits or more")
    return key


def _parse(setting: str, parse: Callable[[], _Key]) -> _Key:
    try:
        return parse()
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it asks for a password
        refuse(setting, "is not the kind of key that is asked for here (unencrypted PEM)")
