"""RSA2 (RSA PKCS#1 v1.5 over SHA-256) and nothing weaker: keys, signing, verifying.

The official SDK takes the hash from the signature itself, so MD5 and SHA-1 pass there as RSA2.
Here the hash is fixed, and native code signs a hundred times faster.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from payments.merchant_settings import refuse

KEY_BITS_MIN = 2048

K = TypeVar("K", RSAPrivateKey, RSAPublicKey)

_UNUSABLE = (ValueError, TypeError, UnsupportedAlgorithm)


def private_key(text: str, setting: str) -> RSAPrivateKey:
    """An RSA private key: PEM or bare base64, PKCS#1 or PKCS#8; an error names only `setting`."""
    key = _load(
        text,
        setting,
        lambda pem: load_pem_private_key(pem, password=None),
        lambda der: load_der_private_key(der, password=None),
    )
    if not isinstance(key, RSAPrivateKey):
        refuse(setting, "is not an RSA private key")
    return _strong(key, setting)


def public_key(text: str, setting: str) -> RSAPublicKey:
    """An RSA public key: PEM or bare base64 as the console shows it."""
    key = _load(text, setting, load_pem_public_key, load_der_public_key)
    if not isinstance(key, RSAPublicKey):
        refuse(setting, "is not an RSA public key")
    return _strong(key, setting)


def _load(
    text: str,
    setting: str,
    from_pem: Callable[[bytes], object],
    from_der: Callable[[bytes], object],
) -> object:
    try:
        if "-----BEGIN" in text:
            return from_pem(text.strip().encode("ascii"))
        return from_der(base64.b64decode("".join(text.split()), validate=True))
    except _UNUSABLE:
        refuse(setting, "is not a key that can be read (unencrypted PEM or base64)")


def _strong(key: K, setting: str) -> K:
    if key.key_size < KEY_BITS_MIN:
        refuse(setting, f"is a key of fewer than {KEY_BITS_MIN} bits")
    return key


def canonical(params: Mapping[str, str], *, without: frozenset[str]) -> str:
    """What is signed: `key=value` by key, joined with `&`; empty values take no part."""
    return "&".join(
        f"{key}={params[key]}" for key in sorted(params) if params[key] and key not in without
    )


def sign(key: RSAPrivateKey, content: bytes) -> str:
    """The RSA2 signature in base64."""
    return base64.b64encode(key.sign(content, padding.PKCS1v15(), SHA256())).decode("ascii")


def is_signed(key: RSAPublicKey, content: bytes, signature: str) -> bool:
    """Whether `signature` is this key's RSA2 signature of `content`."""
    try:
        key.verify(
            base64.b64decode(signature, validate=True), content, padding.PKCS1v15(), SHA256()
        )
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
