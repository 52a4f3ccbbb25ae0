"""By which key a platform signs now: a public key, a certificate, or both in turn; from when on."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from payments.contract import Platform
from payments.sandbox.certificates import NAMES, Certificates, alipay_sn, ensure_certificates
from payments.sandbox.faults import Kind
from payments.sandbox.keys import SandboxKeys

PUBLIC_KEY = "public_key"
_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
_Change = tuple[datetime, tuple[str, ...]]
CHANGES_MAX = 100


@dataclass(frozen=True, slots=True)
class Signer:
    """One key of a platform and what it is called; `flaw` makes its signatures wrong."""

    serial: str
    key: RSAPrivateKey
    flaw: Kind | None = None

    def sign(self, message: bytes) -> str:
        """The signature, base64."""
        content = message if self.flaw is None else message + b"forged"
        signature = b64encode(self.key.sign(content, PKCS1v15(), SHA256())).decode()
        return f"WECHATPAY/SIGNTEST/{signature}" if self.flaw is Kind.SIGNTEST else signature


class BadSignerError(ValueError):
    """No such key, or too many changes."""


class Signing:
    """The plan of one sandbox; without a change each platform signs by its public key."""

    def __init__(self, keys: SandboxKeys) -> None:
        self._keys = keys
        self.reset()
        self._turns = dict.fromkeys(Platform, 0)

    @cached_property
    def certificates(self) -> Certificates:
        """All certificates, made when they are first needed."""
        return ensure_certificates(self._keys)

    def change(self, platform: Platform, names: Sequence[str], at: datetime) -> None:
        """From `at` on sign by these ("public_key", "cert1", "cert2"), in turn if several."""
        if not names or not set(names) <= {PUBLIC_KEY, *NAMES}:
            raise BadSignerError(f"a signer is one of {PUBLIC_KEY}, {', '.join(NAMES)}")
        plan = self._plans[platform]
        if len(plan) > CHANGES_MAX:
            raise BadSignerError(f"no more than {CHANGES_MAX} changes")
        plan.append((at, tuple(names)))
        plan.sort(key=lambda change: change[0])  # stable: the later word of one instant holds

    def reset(self) -> None:
        """By public key again, always."""
        always: _Change = (_ALWAYS, (PUBLIC_KEY,))
        self._plans = {platform: [always] for platform in Platform}

    def signer(self, platform: Platform, now: datetime, flaw: Kind | None = None) -> Signer:
        """Who signs what the platform says now."""
        names = [names for at, names in self._plans[platform] if at <= now][-1]
        turn, self._turns[platform] = self._turns[platform], self._turns[platform] + 1
        signer = self._named(platform, names[turn % len(names)])
        return replace(signer, flaw=flaw) if flaw else signer

    def planned(self, platform: Platform) -> list[str]:
        """The certificates that sign now or later: what a platform hands out."""
        names = {name for _, names in self._plans[platform] for name in names}
        return sorted(names - {PUBLIC_KEY})

    def _named(self, platform: Platform, name: str) -> Signer:
        if platform is Platform.WECHAT:
            if name == PUBLIC_KEY:
                return Signer(self._keys.platform_public_key_id, self._keys.wechat_platform)
            issued = self.certificates.wechat[name]
            return Signer(issued.serial, issued.key)
        if name == PUBLIC_KEY:
            return Signer("", self._keys.alipay_platform)
        issued = self.certificates.alipay[name]
        return Signer(alipay_sn(issued.certificate), issued.key)
