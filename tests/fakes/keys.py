"""RSA keys of tests: made when first asked for, one a name in a process; and files for them."""

from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key


@cache
def rsa_key(name: str) -> RSAPrivateKey:
    """A key of 2048 bits; `name` tells it from others."""
    assert name
    return generate_private_key(65537, 2048)


def secret_file(path: Path, content: bytes | str) -> Path:
    """A file for its owner's eyes only, as a merchant's secrets must be."""
    path.touch(mode=0o600)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
