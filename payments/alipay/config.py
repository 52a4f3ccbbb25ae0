"""A merchant at Alipay: ids and keys, checked once, never printed."""

from dataclasses import dataclass, field
from pathlib import Path

from payments.alipay import signing
from payments.contract import MerchantConfigError
from payments.merchant_settings import Problems, checked_key, refuse

ID_LENGTH_MAX = 32
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
    """Read the keys and prove that they can be used; MerchantConfigError names all faults."""
    problems = Problems()
    problems.take(lambda: _check_id(app_id, "app_id"))
    problems.take(lambda: _check_id(seller_id, "seller_id"))
    private = problems.take(
        lambda: checked_key(PRIVATE_KEY_SETTING, private_key_file, signing.private_key, secret=True)
    )
    public = problems.take(
        lambda: checked_key(
            PUBLIC_KEY_SETTING, alipay_public_key_file, signing.public_key, secret=False
        )
    )
    if private is None or public is None or problems.found:
        raise MerchantConfigError(*problems.found)
    ours = signing.private_key(private, PRIVATE_KEY_SETTING).public_key()
    if ours == signing.public_key(public, PUBLIC_KEY_SETTING):
        refuse(PUBLIC_KEY_SETTING, "is the app's own public key; Alipay's is needed")
    return AlipayMerchant(app_id, seller_id, private, public)


def _check_id(value: str, setting: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) <= ID_LENGTH_MAX):
        refuse(setting, f"is not made of 1 to {ID_LENGTH_MAX} digits")
