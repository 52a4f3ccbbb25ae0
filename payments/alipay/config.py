"""A merchant at Alipay: ids and keys, checked once, never printed."""

from dataclasses import dataclass, field
from pathlib import Path

from payments.alipay import signing

ID_LENGTH_MAX = 32
KEY_FILE_BYTES_MAX = 16_384
PRIVATE_KEY_SETTING = "private_key_file"
PUBLIC_KEY_SETTING = "alipay_public_key_file"


@dataclass(frozen=True, slots=True)
class AlipayMerchant:
    """Our app (its private key signs) and Alipay's public key for it (it verifies)."""

    app_id: str
    seller_id: str
    private_key_pem: str = field(repr=False)
    alipay_public_key_pem: str = field(repr=False)


def load(
    *, app_id: str, seller_id: str, private_key_file: Path, alipay_public_key_file: Path
) -> AlipayMerchant:
    """Read the keys and prove that they can be used; MerchantConfigError names the setting."""
    merchant = AlipayMerchant(
        app_id=_platform_id(app_id, "app_id"),
        seller_id=_platform_id(seller_id, "seller_id"),
        private_key_pem=_key_text(private_key_file, PRIVATE_KEY_SETTING),
        alipay_public_key_pem=_key_text(alipay_public_key_file, PUBLIC_KEY_SETTING),
    )
    private_key = signing.private_key(merchant.private_key_pem, PRIVATE_KEY_SETTING)
    public_key = signing.public_key(merchant.alipay_public_key_pem, PUBLIC_KEY_SETTING)
    if private_key.public_key().public_numbers() == public_key.public_numbers():
        signing.refuse(PUBLIC_KEY_SETTING, "is the app's own public key; Alipay's is needed")
    return merchant


def _platform_id(value: str, setting: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= ID_LENGTH_MAX):
        signing.refuse(setting, f"is not made of 1 to {ID_LENGTH_MAX} digits")
    return value


def _key_text(path: Path, setting: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        signing.refuse(setting, f"cannot be read: {reason}")
    if len(content) > KEY_FILE_BYTES_MAX:
        signing.refuse(setting, "is too large for a key file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        signing.refuse(setting, "is not a text file")
