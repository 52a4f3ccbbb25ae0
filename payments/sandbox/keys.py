"""The sandbox mall's keys: made once at run time, in one folder, for the owner's eyes only."""

import os
import secrets
import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)

WECHAT_MCHID = "1900000109"
WECHAT_APPID = "wx0000000000000001"
WECHAT_CERT_SERIAL = "33DDFEC51BF5412F663B9B56510FD567B625FC68"
WECHAT_PLATFORM_PUBLIC_KEY_ID = "PUB_KEY_ID_0119000001092026"
ALIPAY_APP_ID = "2021000000000001"
ALIPAY_SELLER_ID = "2088000000000001"

_APIV3_KEY_CHARACTERS = 32
_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class SandboxKeys:
    """Both ends' keys: what the merchant holds and what only the platform holds.

    The product reads, from `folder`: apiv3.txt, wechat_merchant.pem, wechat_platform.pem,
    alipay_app.pem, alipay_platform.pem (the names in the contract's site file).
    """

    folder: Path
    apiv3_key: str
    wechat_merchant: RSAPrivateKey
    wechat_platform: RSAPrivateKey
    alipay_app: RSAPrivateKey
    alipay_platform: RSAPrivateKey
    mchid: str = WECHAT_MCHID
    appid: str = WECHAT_APPID
    cert_serial: str = WECHAT_CERT_SERIAL
    platform_public_key_id: str = WECHAT_PLATFORM_PUBLIC_KEY_ID
    alipay_app_id: str = ALIPAY_APP_ID
    alipay_seller_id: str = ALIPAY_SELLER_ID


def ensure_keys(folder: Path) -> SandboxKeys:
    """The keys in `folder`, made where absent; two processes at once end with the same ones."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = SandboxKeys(
        folder=folder,
        apiv3_key=ensure_file(folder / "apiv3.txt", _new_apiv3_key).decode("ascii").strip(),
        wechat_merchant=ensure_private(folder / "wechat_merchant.pem"),
        wechat_platform=ensure_private(folder / "wechat_platform_private.pem"),
        alipay_app=ensure_private(folder / "alipay_app.pem"),
        alipay_platform=ensure_private(folder / "alipay_platform_private.pem"),
    )
    _ensure_public(folder / "wechat_platform.pem", keys.wechat_platform)
    _ensure_public(folder / "alipay_app_public.pem", keys.alipay_app)
    _ensure_public(folder / "alipay_platform.pem", keys.alipay_platform)
    return keys


def public_pem(key: RSAPublicKey) -> bytes:
    """A public key as the platforms hand it out."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _new_apiv3_key() -> bytes:
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(_APIV3_KEY_CHARACTERS)).encode()


def _new_private_pem() -> bytes:
    return generate_private_key(public_exponent=65537, key_size=_RSA_BITS).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def ensure_private(path: Path) -> RSAPrivateKey:
    """The private key in a file, made where absent."""
    key = serialization.load_pem_private_key(ensure_file(path, _new_private_pem), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError(f"{path.name} is not an RSA private key")
    return key


def _ensure_public(path: Path, private: RSAPrivateKey) -> None:
    pem = public_pem(private.public_key())
    if not path.exists() or path.read_bytes() != pem:
        _write_once(path, pem, replace=True)


def ensure_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """A file's content, made where absent; the first maker wins."""
    if not path.exists():
        _write_once(path, make(), replace=False)
    return path.read_bytes()


def _write_once(path: Path, content: bytes, *, replace: bool) -> None:
    """Whole or not at all; without `replace` the first writer wins."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mkstemp gives mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if replace:
            Path(temporary).replace(path)
            return
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return  # another process was first: its key counts
    finally:
        Path(temporary).unlink(missing_ok=True)
