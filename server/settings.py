"""Settings: frozen and typed, from the environment alone (docs/settings.md).

An empty variable counts as unset. `NAME_FILE` names a file that holds the value of `NAME`.
"""

import base64
import binascii
import contextlib
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from server.core.errors import Fault, MallwattError

TEST_APPID = "wx0000000000000001"
TEST_SECRET = "sandbox-secret"  # noqa: S105 - opens nothing but the sandbox
SANDBOX_APPIDS = frozenset({TEST_APPID})
SECRET_KEY_FILE = "secret_key"  # noqa: S105 - a file's name
SECRET_KEY_CHARS_MIN = 16
SECRET_FILE_BYTES_MAX = 65_536
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


Parsed = TypeVar("Parsed")


class SettingsError(MallwattError):
    """A setting is malformed or, in its mode, missing; one line that begins with its name."""

    code = "settings"
    fault = Fault.CALLER


class Mode(StrEnum):
    """MALLWATT_ENV."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides; None is "not set"."""

    mode: Mode
    data_dir: Path
    http: Address
    public_url: str
    secret_key: str = field(repr=False)
    database_url: str | None = field(repr=False)  # None: the embedded one
    redis_url: str | None = field(repr=False)  # None: the embedded one
    profiles_dir: Path | None
    dtu_listen: Address | None
    mqtt_url: str | None = field(repr=False)
    weixin_appid: str | None  # with weixin_secret, or both None: its logins and messages are off
    weixin_secret: str | None = field(repr=False)
    weixin_token: str | None = field(repr=False)
    weixin_aes_key: str | None = field(repr=False)
    weixin_api_url: str
    wechat_pay_url: str
    alipay_gateway_url: str
    proxies_count: int  # how many X-Forwarded-For entries were written by our own proxies
    metrics_token: str | None = field(repr=False)  # None: loopback alone may read /metrics

    @property
    def is_production(self) -> bool:
        """Whether this is no playground."""
        return self.mode is Mode.PRODUCTION


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings; raises SettingsError. Makes a secret key where development has none."""
    env = _Environment(environ)
    http = env.parsed("MALLWATT_HTTP", _address, "127.0.0.1:8000")
    data_dir = Path(env.required("MALLWATT_DATA_DIR", ".data")).absolute()
    weixin_api_url = env.parsed("MALLWATT_WEIXIN_API_URL", _http_url, "https://api.weixin.qq.com")
    appid, secret = _weixin(env, weixin_api_url)
    settings = Settings(
        mode=env.parsed("MALLWATT_ENV", _mode, "development"),
        data_dir=data_dir,
        http=http,
        public_url=env.parsed("MALLWATT_PUBLIC_URL", _http_url, _local_url(http)),
        secret_key=env.text("MALLWATT_SECRET_KEY") or "",
        database_url=env.optional("MALLWATT_DATABASE_URL", _database_url),
        redis_url=env.optional("MALLWATT_REDIS_URL", _redis_url),
        profiles_dir=env.optional("MALLWATT_PROFILES_DIR", _folder),
        dtu_listen=env.optional("MALLWATT_DTU_LISTEN", _address),
        mqtt_url=env.optional("MALLWATT_MQTT_URL", _mqtt_url),
        weixin_appid=appid,
        weixin_secret=secret,
        weixin_token=env.optional("MALLWATT_WEIXIN_TOKEN", _weixin_token),
        weixin_aes_key=env.optional("MALLWATT_WEIXIN_AES_KEY", _weixin_aes_key),
        weixin_api_url=weixin_api_url,
        wechat_pay_url=env.parsed(
            "MALLWATT_WECHAT_PAY_URL", _http_url, "https://api.mch.weixin.qq.com"
        ),
        alipay_gateway_url=env.parsed(
            "MALLWATT_ALIPAY_GATEWAY_URL", _http_url, "https://openapi.alipay.com/gateway.do"
        ),
        proxies_count=env.parsed("MALLWATT_PROXIES_COUNT", _proxies_count, "0"),
        metrics_token=env.optional("MALLWATT_METRICS_TOKEN", _metrics_token),
    )
    if settings.weixin_aes_key and not settings.weixin_token:
        raise SettingsError("MALLWATT_WEIXIN_TOKEN is missing: MALLWATT_WEIXIN_AES_KEY needs it")
    if settings.is_production:
        _check_production(settings, env)
        return settings
    return settings if settings.secret_key else _with_kept_key(settings)


class _Environment:
    """The variables, and what a complaint about one says."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        """The value, from the variable or from the file that NAME_FILE names; None: not set."""
        value = self._environ.get(name) or None
        file = self._environ.get(f"{name}_FILE") or None
        if file is None:
            return value
        if value is not None:
            raise SettingsError(f"{name} and {name}_FILE are both set: keep one")
        try:
            with Path(file).open(encoding="utf-8") as opened:
                content = opened.read(SECRET_FILE_BYTES_MAX + 1)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"{name}_FILE cannot be read: {file}: {why}") from error
        content = content.strip()
        if not content or len(content) > SECRET_FILE_BYTES_MAX:
            raise SettingsError(f"{name}_FILE names an empty or a huge file: {file}")
        return content

    def required(self, name: str, default: str) -> str:
        """The value or the default."""
        return self.text(name) or default

    def parsed(self, name: str, parse: Callable[[str], Parsed], default: str) -> Parsed:
        """The value or the default, parsed."""
        return self._parse(name, parse, self.required(name, default))

    def optional(self, name: str, parse: Callable[[str], Parsed]) -> Parsed | None:
        """The value, parsed; None where it is not set."""
        value = self.text(name)
        return None if value is None else self._parse(name, parse, value)

    @staticmethod
    def _parse(name: str, parse: Callable[[str], Parsed], value: str) -> Parsed:
        try:
            return parse(value)
        except ValueError as error:
            raise SettingsError(f"{name} is malformed: {error}") from error


def _mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError as error:
        raise ValueError("development or production is wanted") from error


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or "/" in text or not port.isascii() or not port.isdigit():
        raise ValueError("host:port is wanted, such as 127.0.0.1:8000")
    if not 0 < int(port) < 65_536:
        raise ValueError("a port is between 1 and 65535")
    return Address(host, int(port))


def _split(text: str, schemes: tuple[str, ...], form: str) -> SplitResult:
    """The parts of a URL; what is wrong never quotes it, for it may hold a password."""
    try:
        parts = urlsplit(text)
        port_is_good = parts.port != 0
    except ValueError as error:
        raise ValueError(f"{form} is wanted") from error
    if parts.scheme not in schemes or not port_is_good or re.search(r"\s", text):
        raise ValueError(f"{form} is wanted")
    return parts


def _http_url(text: str) -> str:
    form = "a URL such as https://mall.example"
    parts = _split(text, ("http", "https"), form)
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{form} is wanted, without user, query or fragment")
    return text.rstrip("/")


def _database_url(text: str) -> str:
    form = "postgres://user:password@host:5432/database"
    parts = _split(text, ("postgres", "postgresql"), form)
    if not parts.hostname or not parts.path.strip("/"):
        raise ValueError(f"{form} is wanted")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not {name for name, _ in query} <= {"host", "sslmode"} or len(dict(query)) < len(query):
        raise ValueError("after its ? only host=FOLDER and sslmode=MODE may stand, each once")
    if dict(query).get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(SSL_MODES)}")
    return "postgres" + text.removeprefix(parts.scheme)


def _redis_url(text: str) -> str:
    form = "redis://, rediss:// or unix:// and an address"
    parts = _split(text, ("redis", "rediss", "unix"), form)
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError(f"{form} is wanted")
    return text


def _mqtt_url(text: str) -> str:
    form = "mqtt://host:1883 or mqtts://host:8883"
    if not _split(text, ("mqtt", "mqtts"), form).hostname:
        raise ValueError(f"{form} is wanted")
    return text


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"no such folder: {text}")
    return path.absolute()


def _appid(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("an appid such as wx0123456789abcdef is wanted")
    return text


def _weixin_token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{3,32}", text):
        raise ValueError("3 to 32 letters and digits are wanted")
    return text


def _proxies_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 8):
        raise ValueError("a number from 0 to 8 is wanted")
    return int(text)


def _metrics_token(text: str) -> str:
    if len(text) < SECRET_KEY_CHARS_MIN:
        raise ValueError(f"at least {SECRET_KEY_CHARS_MIN} characters are wanted")
    return text


def _weixin_aes_key(text: str) -> str:
    try:
        key = base64.b64decode(text + "=", validate=True)
    except binascii.Error as error:
        raise ValueError("43 characters of base64 are wanted") from error
    if len(text) != 43 or len(key) != 32:
        raise ValueError("43 characters of base64 are wanted")
    return text


def _weixin(env: _Environment, api_url: str) -> tuple[str | None, str | None]:
    """The mini-program's appid and secret: both or none; beside a local fake made up."""
    appid = env.optional("MALLWATT_WEIXIN_APPID", _appid)
    secret = env.text("MALLWATT_WEIXIN_SECRET")
    if is_loopback(api_url):
        return appid or TEST_APPID, secret or TEST_SECRET
    if appid is None and secret is not None:
        raise SettingsError("MALLWATT_WEIXIN_APPID is missing: MALLWATT_WEIXIN_SECRET needs it")
    if secret is None and appid is not None:
        raise SettingsError("MALLWATT_WEIXIN_SECRET is missing: MALLWATT_WEIXIN_APPID needs it")
    return appid, secret


def is_loopback(url: str) -> bool:
    """Whether the URL stays on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _local_url(http: Address) -> str:
    """How this machine reaches its own pages."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return f"http://{Address(everywhere.get(http.host, http.host), http.port)}"


def _check_production(settings: Settings, env: _Environment) -> None:
    """Refuse what belongs to a playground."""
    if env.text("MALLWATT_PUBLIC_URL") is None:
        raise SettingsError("MALLWATT_PUBLIC_URL is missing: production needs an https URL")
    if not settings.public_url.startswith("https://"):
        raise SettingsError("MALLWATT_PUBLIC_URL must be an https URL in production")
    if not settings.secret_key:
        raise SettingsError("MALLWATT_SECRET_KEY is missing: production needs one of its own")
    if len(settings.secret_key) < SECRET_KEY_CHARS_MIN:
        raise SettingsError(
            f"MALLWATT_SECRET_KEY is too short: {SECRET_KEY_CHARS_MIN} characters at least"
        )
    for name, url in (
        ("MALLWATT_WEIXIN_API_URL", settings.weixin_api_url),
        ("MALLWATT_WECHAT_PAY_URL", settings.wechat_pay_url),
        ("MALLWATT_ALIPAY_GATEWAY_URL", settings.alipay_gateway_url),
    ):
        if is_loopback(url):
            raise SettingsError(f"{name} is on this machine: a sandbox is refused in production")
        if not url.startswith("https://"):
            raise SettingsError(f"{name} must be an https URL in production")
    if settings.weixin_appid in SANDBOX_APPIDS:
        raise SettingsError("MALLWATT_WEIXIN_APPID is the sandbox's: refused in production")


def _with_kept_key(settings: Settings) -> Settings:
    """The settings with the key that this data folder keeps; processes may come at once."""
    path = settings.data_dir / SECRET_KEY_FILE
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_key(path)
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(
            f"MALLWATT_DATA_DIR cannot be used: {path}: {error.strerror}"
        ) from error
    if not key:
        raise SettingsError(f"MALLWATT_SECRET_KEY: the kept key is empty: remove {path}")
    return replace(settings, secret_key=key)


def _make_key(path: Path) -> None:
    """Keep a new key, whole or not at all; where another process was quicker, its key stays."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
