"""RSA keys of tests: made when first asked for, one a name in a process."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key


@cache
def rsa_key(name: str) -> RSAPrivateKey:
    """A key of 2048 bits; `name` tells it from others."""
    assert name
    return generate_private_key(65537, 2048)
