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
    platform_public_key_pem: str = field(repr=False)
    platform_public_key_id: str

    def __post_init__(self) -> None:
        misshapen = _misshapen({setting: getattr(self, setting) for setting in _IDS})
        if misshapen:
            raise MerchantConfigError(*misshapen)
        ours = private_key(self.private_key_pem).public_key()
        if ours == public_key(self.platform_public_key_pem):
            refuse("platform_public_key", "is the merchant's own; the platform's is needed")


def load(
    *,
    mchid: str,
    appid: str,
    apiv3_key_file: Path,
    private_key_file: Path,
    cert_serial: str,
    platform_public_key_file: Path,
    platform_public_key_id: str,
) -> WeChatMerchant:
    """A merchant from the settings of a site file; MerchantConfigError names all faults."""
    problems = Problems()
    apiv3_key = problems.take(lambda: _apiv3_key(apiv3_key_file))
    private = problems.take(
        lambda: checked_key("private_key_file", private_key_file, private_key, secret=True)
    )
    public = problems.take(
        lambda: checked_key(
            "platform_public_key_file", platform_public_key_file, public_key, secret=False
        )
    )
    ids = {
        "mchid": mchid,
        "appid": appid,
        "cert_serial": cert_serial,
        "platform_public_key_id": platform_public_key_id,
    }
    problems.found += _misshapen(ids)
    if apiv3_key is None or private is None or public is None or problems.found:
        raise MerchantConfigError(*problems.found)
    return WeChatMerchant(
        **ids,
        apiv3_key=apiv3_key,
        private_key_pem=private,
        platform_public_key_pem=public,
    )


def _apiv3_key(path: Path) -> str:
    key = read_key("apiv3_key_file", path, secret=True).strip()
    if _IDS["apiv3_key"].fullmatch(key) is None:
        refuse("apiv3_key_file", "holds no APIv3 key (32 characters)")
    return key


def _misshapen(ids: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (setting, "is not of the form that WeChat Pay gives")
        for setting, value in ids.items()
        if _IDS[setting].fullmatch(value) is None
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
