"""A merchant's key files at WeChat Pay: each fault names its setting, and none shows a key."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from payments.contract import MerchantConfigError
from payments.sandbox.keys import SandboxKeys
from payments.wechat.client import build
from payments.wechat.config import WeChatMerchant, load
from tests.fakes.keys import rsa_key, secret_file

OURS = rsa_key("app")
WEAK = rsa_key("weak", 1024)  # proves that it is refused
CURVE = ec.generate_private_key(ec.SECP256R1())
PKCS8 = OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PKCS1 = OURS.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
LOCKED = OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
PUBLIC = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com sign")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(OURS.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(OURS, SHA256())
        .public_bytes(Encoding.PEM)
    )


def loaded(keys: SandboxKeys, **changes: object) -> WeChatMerchant:
    settings: dict[str, object] = {
        "mchid": keys.mchid,
        "appid": keys.appid,
        "apiv3_key_file": keys.folder / "apiv3.txt",
        "private_key_file": keys.folder / "wechat_merchant.pem",
        "cert_serial": keys.cert_serial,
        "platform_public_key_file": keys.folder / "wechat_platform.pem",
        "platform_public_key_id": keys.platform_public_key_id,
    }
    return load(**settings | changes)  # type: ignore[arg-type]  # a table of wrong values


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("apiv3_key_file", b"", "holds no APIv3 key"),
        ("apiv3_key_file", b"0" * 31, "holds no APIv3 key"),
        ("apiv3_key_file", b"0" * 33, "holds no APIv3 key"),
        ("apiv3_key_file", "密".encode() * 32, "holds no APIv3 key"),
        ("apiv3_key_file", b"\xff" * 32, "not a text file"),
        ("apiv3_key_file", b"0" * 20_000, "too large"),
        ("private_key_file", b"", "kind of key"),
        ("private_key_file", PUBLIC, "kind of key"),
        ("private_key_file", certificate(), "kind of key"),
        ("private_key_file", LOCKED, "kind of key"),
        ("private_key_file", PKCS8[:-200], "kind of key"),
        (
            "private_key_file",
            CURVE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "RSA private key",
        ),
        (
            "private_key_file",
            WEAK.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "2048 bits",
        ),
        ("platform_public_key_file", PKCS8, "kind of key"),
        ("platform_public_key_file", certificate(), "kind of key"),
        ("platform_public_key_file", b"PUB_KEY_ID_0119000001092026", "kind of key"),
    ],
)
def test_a_key_file_of_the_wrong_kind_is_named(
    keys: SandboxKeys, tmp_path: Path, setting: str, content: bytes, problem: str
) -> None:
    path = tmp_path / "key"
    secret_file(path, content)
    with pytest.raises(MerchantConfigError, match=f"^{setting}: .*{problem}"):
        loaded(keys, **{setting: path})


@pytest.mark.parametrize(
    "setting", ["apiv3_key_file", "private_key_file", "platform_public_key_file"]
)
def test_a_file_that_cannot_be_read_is_named(
    keys: SandboxKeys, tmp_path: Path, setting: str
) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(MerchantConfigError, match=f"^{setting}: cannot be read"):
            loaded(keys, **{setting: path})


@pytest.mark.parametrize(
    ("setting", "name", "mode", "refused"),
    [
        ("apiv3_key_file", "apiv3.txt", 0o644, True),
        ("apiv3_key_file", "apiv3.txt", 0o604, True),
        ("apiv3_key_file", "apiv3.txt", 0o640, False),
        ("apiv3_key_file", "apiv3.txt", 0o400, False),
        ("private_key_file", "wechat_merchant.pem", 0o644, True),
        ("private_key_file", "wechat_merchant.pem", 0o666, True),
        ("private_key_file", "wechat_merchant.pem", 0o640, False),
        ("platform_public_key_file", "wechat_platform.pem", 0o644, False),
    ],
)
def test_a_secret_that_everybody_can_read_is_refused(
    keys: SandboxKeys, tmp_path: Path, setting: str, name: str, mode: int, refused: bool
) -> None:
    path = secret_file(tmp_path / name, (keys.folder / name).read_bytes())
    path.chmod(mode)
    if not refused:
        assert loaded(keys, **{setting: path}) == loaded(keys)
        return
    with pytest.raises(
        MerchantConfigError, match=rf"^{setting}: can be read by others \(chmod 600\)$"
    ):
        loaded(keys, **{setting: path})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mchid", ""),
        ("mchid", "19000001o9"),
        ("mchid", "1" * 33),
        ("appid", ""),
        ("appid", "wx 1"),
        ("cert_serial", ""),
        ("cert_serial", "33:DD"),
        ("platform_public_key_id", ""),
        ("platform_public_key_id", 'PUB"'),
    ],
)
def test_an_id_of_another_form_is_named(keys: SandboxKeys, setting: str, value: str) -> None:
    with pytest.raises(MerchantConfigError, match=f"^{setting}: "):
        loaded(keys, **{setting: value})


def test_all_faults_are_named_at_once(keys: SandboxKeys, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(MerchantConfigError) as caught:
        loaded(
            keys,
            appid="",
            cert_serial="33:DD",
            apiv3_key_file=absent,
            private_key_file=absent,
            platform_public_key_file=absent,
        )
    assert sorted(setting for setting, _ in caught.value.problems) == [
        *("apiv3_key_file", "appid", "cert_serial"),
        *("platform_public_key_file", "private_key_file"),
    ]


def test_the_merchants_own_public_key_is_not_the_platforms(
    keys: SandboxKeys, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "private.pem", tmp_path / "public.pem"
    secret_file(ours, PKCS8)
    theirs.write_bytes(PUBLIC)
    with pytest.raises(MerchantConfigError, match="platform_public_key: is the merchant's own"):
        loaded(keys, private_key_file=ours, platform_public_key_file=theirs)


@pytest.mark.parametrize("pem", [PKCS8, PKCS1, PKCS8.replace(b"\n", b"\r\n")])
async def test_every_form_of_the_private_key_works(
    keys: SandboxKeys, tmp_path: Path, pem: bytes
) -> None:
    path = tmp_path / "key.pem"
    secret_file(path, pem)
    await build(loaded(keys, private_key_file=path)).aclose()


def test_spaces_around_the_apiv3_key_do_not_count(keys: SandboxKeys, tmp_path: Path) -> None:
    path = tmp_path / "apiv3.txt"
    secret_file(path, f"\ufeff{keys.apiv3_key}\r\n")
    assert loaded(keys, apiv3_key_file=path).apiv3_key == keys.apiv3_key


def test_a_merchant_shows_no_key(keys: SandboxKeys) -> None:
    merchant = loaded(keys)
    assert keys.apiv3_key not in repr(merchant)
    assert "KEY-----" not in repr(merchant)


KEY = ("platform_public_key_file", "platform_public_key_id")


@pytest.mark.parametrize(
    ("without", "changes", "uses", "has_key"),
    [
        ((), {}, False, True),
        ((), {"platform_certificates": True}, True, True),
        ((), {"platform_certificates": False}, False, True),
        (KEY, {}, True, False),
        (KEY, {"platform_certificates": True}, True, False),
    ],
)
def test_the_platform_proves_itself_by_key_by_certificates_or_by_either(
    keys: SandboxKeys, without: tuple[str, ...], changes: dict[str, bool], uses: bool, has_key: bool
) -> None:
    merchant = loaded(keys, **dict.fromkeys(without), **changes)
    assert (merchant.platform_certificates, bool(merchant.platform_keys)) == (uses, has_key)


@pytest.mark.parametrize(
    ("without", "changes", "setting"),
    [
        (KEY[:1], {}, "platform_public_key_file"),
        (KEY[1:], {}, "platform_public_key_id"),
        (KEY[:1], {"platform_certificates": True}, "platform_public_key_file"),
        (KEY, {"platform_certificates": False}, "platform_public_key_file"),
    ],
)
def test_half_a_way_to_prove_itself_is_none(
    keys: SandboxKeys, without: tuple[str, ...], changes: dict[str, bool], setting: str
) -> None:
    with pytest.raises(MerchantConfigError, match=f"^{setting}: is needed with"):
        loaded(keys, **dict.fromkeys(without), **changes)
