"""RSA keys of tests: made when first asked for, one a name in a run; and files for them."""

import atexit
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from payments.sandbox.keys import SandboxKeys, ensure_file, ensure_keys

FOLDER = "MALLWATT_TEST_KEYS"  # names the folder of all workers' keys; else a process has its own


@cache
def _folder() -> Path:
    given = os.environ.get(FOLDER)
    if given is not None:
        return Path(given)
    own = mkdtemp(prefix="mallwatt-keys-")
    atexit.register(shutil.rmtree, own)
    return Path(own)


@contextmanager
def _one_maker() -> Iterator[Path]:
    """The folder of keys while nobody else makes one: who waits will find it."""
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _folder()


def _new_pem(bits: int) -> bytes:
    key = generate_private_key(65537, bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAPrivateKey:
    """A key; `name` tells it from others."""
    with _one_maker() as folder:
        pem = ensure_file(folder / f"{name}-{bits}.pem", partial(_new_pem, bits))
    # to prove its primes again takes as long as to make it
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    return key


def secret_file(path: Path, content: bytes | str) -> Path:
    """A file for its owner's eyes only, as a merchant's secrets must be."""
    path.touch(mode=0o600)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@cache
def _made() -> Path:
    """A folder of sandbox keys that the others are copied from."""
    with _one_maker() as folder:
        return ensure_keys(folder / "sandbox").folder


def keys_in(folder: Path) -> SandboxKeys:
    """The sandbox's keys in a folder of the test's own, as new ones; making them takes longer."""
    if not folder.exists():
        shutil.copytree(_made(), folder)
    return ensure_keys(folder)
