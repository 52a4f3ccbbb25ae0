"""Every setting: its default, what it accepts, and the one line that refuses it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.models.database import database_config
from server.settings import Address, Mode, SettingsError, is_loopback, load_settings

AES_KEY = "a" * 42 + "E"
PRODUCTION = {
    "MALLWATT_ENV": "production",
    "MALLWATT_PUBLIC_URL": "https://mall.example",
    "MALLWATT_SECRET_KEY": "0123456789abcdef0123456789abcdef",
}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """The smallest environment: a data folder of the test's own."""
    return {"MALLWATT_DATA_DIR": str(tmp_path / "data")}


def test_nothing_needs_to_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    assert settings.mode is Mode.DEVELOPMENT
    assert not settings.is_production
    assert settings.data_dir == tmp_path / ".data"
    assert settings.http == Address("127.0.0.1", 8000)
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.weixin_api_url == "https://api.weixin.qq.com"
    assert settings.wechat_pay_url == "https://api.mch.weixin.qq.com"
    assert settings.alipay_gateway_url == "https://openapi.alipay.com/gateway.do"
    unset = (
        settings.database_url,
        settings.redis_url,
        settings.profiles_dir,
        settings.dtu_listen,
        settings.mqtt_url,
        settings.weixin_appid,
        settings.weixin_secret,
        settings.weixin_token,
        settings.weixin_aes_key,
    )
    assert unset == (None,) * 9


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("MALLWATT_HTTP", "0.0.0.0:80", "http", Address("0.0.0.0", 80)),  # noqa: S104 - a value
        ("MALLWATT_HTTP", "0.0.0.0:80", "public_url", "http://127.0.0.1:80"),
        ("MALLWATT_HTTP", "[::]:8000", "public_url", "http://[::1]:8000"),
        ("MALLWATT_HTTP", "", "http", Address("127.0.0.1", 8000)),
        ("MALLWATT_DTU_LISTEN", "[::1]:9000", "dtu_listen", Address("::1", 9000)),
        ("MALLWATT_PUBLIC_URL", "https://mall.example/", "public_url", "https://mall.example"),
        ("MALLWATT_DATABASE_URL", "postgresql://u:p@h/d", "database_url", "postgres://u:p@h/d"),
        ("MALLWATT_DATABASE_URL", "postgres://u@h:1/d", "database_url", "postgres://u@h:1/d"),
        *(
            ("MALLWATT_DATABASE_URL", f"postgres://h/d?{q}", "database_url", f"postgres://h/d?{q}")
            for q in ("host=/run/postgres", "sslmode=verify-full", "host=/run&sslmode=disable")
        ),
        ("MALLWATT_REDIS_URL", "unix:///run/redis", "redis_url", "unix:///run/redis"),
        ("MALLWATT_REDIS_URL", "rediss://:p@h:1/0", "redis_url", "rediss://:p@h:1/0"),
        ("MALLWATT_MQTT_URL", "mqtts://u:p@h:8883", "mqtt_url", "mqtts://u:p@h:8883"),
        ("MALLWATT_WEIXIN_TOKEN", "abc123", "weixin_token", "abc123"),
        ("MALLWATT_SECRET_KEY", "short in development", "secret_key", "short in development"),
    ],
)
def test_accepts(data: dict[str, str], name: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({**data, name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MALLWATT_ENV", "staging"),
        ("MALLWATT_HTTP", "8000"),
        ("MALLWATT_HTTP", "127.0.0.1:http"),
        ("MALLWATT_HTTP", "127.0.0.1:0"),
        ("MALLWATT_HTTP", "127.0.0.1:65536"),
        ("MALLWATT_HTTP", "http://127.0.0.1:8000"),
        ("MALLWATT_HTTP", "127.0.0.1:٨٠"),
        ("MALLWATT_DTU_LISTEN", ":9000"),
        ("MALLWATT_PUBLIC_URL", "mall.example"),
        ("MALLWATT_PUBLIC_URL", "https://"),
        ("MALLWATT_PUBLIC_URL", "https://mall.example/?a=1"),
        ("MALLWATT_PUBLIC_URL", "https://user@mall.example"),
        ("MALLWATT_PUBLIC_URL", "https://mall.example:99999"),
        ("MALLWATT_PUBLIC_URL", "https://mall .example"),
        ("MALLWATT_DATABASE_URL", "sqlite:///x.db"),
        ("MALLWATT_DATABASE_URL", "postgres://host"),
        ("MALLWATT_DATABASE_URL", "postgres:///only-a-name"),
        ("MALLWATT_DATABASE_URL", "postgres://h/d?sslmod=require"),
        ("MALLWATT_DATABASE_URL", "postgres://h/d?sslmode="),
        ("MALLWATT_DATABASE_URL", "postgres://h/d?sslmode=strict"),
        ("MALLWATT_DATABASE_URL", "postgres://h/d?host=/a&host=/b"),
        ("MALLWATT_DATABASE_URL", "postgres://h/d?password=hunter2"),
        ("MALLWATT_REDIS_URL", "localhost:6379"),
        ("MALLWATT_REDIS_URL", "unix://"),
        ("MALLWATT_MQTT_URL", "tcp://broker:1883"),
        ("MALLWATT_PROFILES_DIR", "/nowhere/at/all"),
        ("MALLWATT_WEIXIN_APPID", "wx 1"),
        ("MALLWATT_WEIXIN_TOKEN", "ab"),
        ("MALLWATT_WEIXIN_AES_KEY", "a" * 42),
        ("MALLWATT_WEIXIN_AES_KEY", "!" * 43),
        ("MALLWATT_WEIXIN_API_URL", "ftp://api.example"),
        ("MALLWATT_WECHAT_PAY_URL", "api.example"),
        ("MALLWATT_ALIPAY_GATEWAY_URL", "//openapi.example"),
    ],
)
def test_refuses_by_name_in_one_line(data: dict[str, str], name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({**data, name: text})
    assert str(refusal.value).startswith(f"{name} is malformed: ")
    assert "\n" not in str(refusal.value)


def test_profiles_dir_is_a_folder(data: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings({**data, "MALLWATT_PROFILES_DIR": str(tmp_path)})
    assert settings.profiles_dir == tmp_path


@pytest.mark.parametrize("mode", [None, "disable", "require", "verify-full"])
def test_the_pool_connects_as_the_url_says(mode: str | None) -> None:
    url = "postgres://u:p@h:1/d" + (f"?sslmode={mode}" if mode else "")
    credentials = database_config(url)["connections"]["default"]["credentials"]
    assert (credentials["host"], credentials.get("ssl")) == ("h", mode)


def test_a_refused_secret_is_not_quoted(data: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({**data, "MALLWATT_DATABASE_URL": "mysql://root:hunter2@h/d"})
    assert "hunter2" not in str(refusal.value)


def test_settings_do_not_print_their_secrets(data: dict[str, str]) -> None:
    secret = {
        "MALLWATT_SECRET_KEY": "hunter2 hunter2",
        "MALLWATT_DATABASE_URL": "postgres://u:hunter2@h/d",
    }
    assert "hunter2" not in repr(load_settings({**data, **secret}))


class TestFiles:
    """NAME_FILE names a file that holds the value of NAME."""

    def test_a_secret_is_read_without_its_line_end(
        self, data: dict[str, str], tmp_path: Path
    ) -> None:
        file = tmp_path / "url"
        file.write_text("postgres://u:p@h/d\n", encoding="utf-8")
        settings = load_settings({**data, "MALLWATT_DATABASE_URL_FILE": str(file)})
        assert settings.database_url == "postgres://u:p@h/d"

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (None, "cannot be read"),
            (b"", "an empty or a huge file"),
            (b"\n", "an empty or a huge file"),
            (b"x" * 70_000, "an empty or a huge file"),
            (b"\xff\xfe", "not UTF-8"),
        ],
    )
    def test_refuses(
        self, data: dict[str, str], tmp_path: Path, content: bytes | None, why: str
    ) -> None:
        file = tmp_path / "key"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(SettingsError, match=r"^MALLWATT_SECRET_KEY_FILE ") as refusal:
            load_settings({**data, "MALLWATT_SECRET_KEY_FILE": str(file)})
        assert why in str(refusal.value)

    def test_refuses_two_sources(self, data: dict[str, str]) -> None:
        both = {"MALLWATT_SECRET_KEY": "a", "MALLWATT_SECRET_KEY_FILE": "/b"}
        with pytest.raises(SettingsError, match="both set"):
            load_settings({**data, **both})


class TestSecretKey:
    """Development makes its own and keeps it."""

    def test_is_kept_for_its_owner_alone(self, data: dict[str, str]) -> None:
        first, second = load_settings(data), load_settings(data)
        assert first.secret_key == second.secret_key
        assert len(first.secret_key) >= 32
        kept = first.data_dir / "secret_key"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert [path.name for path in first.data_dir.iterdir()] == ["secret_key"]

    def test_processes_that_start_at_once_agree(self, data: dict[str, str]) -> None:
        with ThreadPoolExecutor(4) as pool:
            keys = set(pool.map(lambda _: load_settings(data).secret_key, range(16)))
        assert len(keys) == 1

    def test_an_emptied_key_is_not_used(self, data: dict[str, str]) -> None:
        kept = load_settings(data).data_dir / "secret_key"
        kept.write_text("", encoding="ascii")
        with pytest.raises(SettingsError, match=r"^MALLWATT_SECRET_KEY: the kept key is empty"):
            load_settings(data)

    def test_a_data_folder_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "data"
        file.write_text("", encoding="ascii")
        with pytest.raises(SettingsError, match=r"^MALLWATT_DATA_DIR cannot be used"):
            load_settings({"MALLWATT_DATA_DIR": str(file)})


class TestWeixin:
    """The mini-program's appid and secret: both, none, or made up beside a fake."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, (None, None)),
            ({"APPID": "wx1", "SECRET": "s"}, ("wx1", "s")),
            (
                {"API_URL": "http://127.0.0.1:9001"},
                ("wx0000000000000001", "sandbox-secret"),
            ),
            (
                {"API_URL": "http://localhost:9001", "APPID": "wx1"},
                ("wx1", "sandbox-secret"),
            ),
        ],
    )
    def test_pairs(
        self,
        data: dict[str, str],
        given: dict[str, str],
        expected: tuple[str | None, str | None],
    ) -> None:
        settings = load_settings(data | {f"MALLWATT_WEIXIN_{k}": v for k, v in given.items()})
        assert (settings.weixin_appid, settings.weixin_secret) == expected

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({"APPID": "wx1"}, "SECRET"),
            ({"SECRET": "s"}, "APPID"),
            ({"AES_KEY": AES_KEY}, "TOKEN"),
        ],
    )
    def test_half_of_a_pair_is_refused(
        self, data: dict[str, str], given: dict[str, str], missing: str
    ) -> None:
        environ = data | {f"MALLWATT_WEIXIN_{k}": v for k, v in given.items()}
        with pytest.raises(SettingsError, match=f"^MALLWATT_WEIXIN_{missing} is missing"):
            load_settings(environ)

    def test_events_may_be_encrypted(self, data: dict[str, str]) -> None:
        given = {"MALLWATT_WEIXIN_TOKEN": "abc", "MALLWATT_WEIXIN_AES_KEY": AES_KEY}
        assert load_settings({**data, **given}).weixin_aes_key == AES_KEY


class TestProduction:
    """Production refuses every toy."""

    def test_needs_little(self) -> None:
        settings = load_settings(PRODUCTION)
        assert settings.is_production
        assert settings.public_url == "https://mall.example"

    @pytest.mark.parametrize(
        ("name", "text", "why"),
        [
            ("MALLWATT_PUBLIC_URL", "", "is missing"),
            ("MALLWATT_PUBLIC_URL", "http://mall.example", "must be an https URL"),
            ("MALLWATT_SECRET_KEY", "", "is missing"),
            ("MALLWATT_SECRET_KEY", "changeme", "is too short"),
            ("MALLWATT_WEIXIN_API_URL", "http://127.0.0.1:1", "is on this machine"),
            ("MALLWATT_WECHAT_PAY_URL", "https://localhost:1", "is on this machine"),
            ("MALLWATT_ALIPAY_GATEWAY_URL", "http://[::1]:1/gateway.do", "is on this machine"),
            ("MALLWATT_ALIPAY_GATEWAY_URL", "http://gateway.example", "must be an https URL"),
        ],
    )
    def test_refuses(self, name: str, text: str, why: str) -> None:
        with pytest.raises(SettingsError, match=f"^{name} {why}"):
            load_settings({**PRODUCTION, name: text})

    def test_refuses_the_sandbox_appid(self) -> None:
        toy = {"MALLWATT_WEIXIN_APPID": "wx0000000000000001", "MALLWATT_WEIXIN_SECRET": "s"}
        with pytest.raises(SettingsError, match=r"^MALLWATT_WEIXIN_APPID is the sandbox's"):
            load_settings({**PRODUCTION, **toy})

    def test_keeps_no_key_on_the_disk(self, data: dict[str, str]) -> None:
        assert not load_settings({**PRODUCTION, **data}).data_dir.exists()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9001", True),
        ("http://127.8.9.10", True),
        ("http://localhost", True),
        ("http://LOCALHOST.:80", True),
        ("http://pay.localhost", True),
        ("http://[::1]:9001", True),
        ("http://0.0.0.0:9001", True),
        ("https://api.weixin.qq.com", False),
        ("http://192.168.1.4", False),
        ("https://localhost.example", False),
    ],
)
def test_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
