"""RSA keys of tests: made when first asked for, one a name in a process; and files for them."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from payments.sandbox.keys import SandboxKeys, ensure_keys


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


@cache
def _made() -> Path:
    """A folder of sandbox keys that the others are copied from; gone with the process."""
    folder = Path(mkdtemp(prefix="mallwatt-keys-"))
    atexit.register(shutil.rmtree, folder)
    return ensure_keys(folder / "keys").folder


def keys_in(folder: Path) -> SandboxKeys:
    """The sandbox's keys in a folder of the test's own, as new ones; making them takes longer."""
    if not folder.exists():
        shutil.copytree(_made(), folder)
    return ensure_keys(folder)
