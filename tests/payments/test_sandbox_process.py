"""The sandbox as a process: one ready line, a clean end, and where it refuses to run."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from payments.sandbox import keys as keys_module
from payments.sandbox.__main__ import main
from payments.sandbox.app import SandboxConfig, SandboxRefusedError, bind_loopback, create_app
from payments.sandbox.keys import SandboxKeys, ensure_keys, public_pem


@contextmanager
def process(*arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own module, arguments of these tests
        [sys.executable, "-m", "payments.sandbox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_that_it_is_ready_and_ends_when_asked(
    tmp_path: Path, keys: SandboxKeys, number: signal.Signals
) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--data", str(tmp_path), "--keys", str(keys.folder))
    with process(*arguments) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("sandbox ready: http://127.0.0.1:")
        url = line.rsplit(" ", 1)[1].strip()
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 204
        running.send_signal(number)
        out, err = running.communicate(timeout=5)
    assert (running.returncode, out, err) == (0, "", "")
    assert (tmp_path / "orders.sqlite").exists()


@pytest.mark.parametrize(
    ("listen", "problem"),
    [
        ("127.0.0.1:{busy}", "Address already in use"),
        ("0.0.0.0:0", "loopback only"),
        ("192.0.2.1:0", "loopback only"),
        ("mall.example:0", "loopback only"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:http", "host:port"),
        ("127.0.0.1:99999", "cannot listen"),
    ],
)
def test_where_it_cannot_listen_it_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str, problem: str
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        listen = listen.format(busy=busy.getsockname()[1])
        assert main(["--listen", listen, "--data", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert err.count("\n") == 1


def test_it_does_not_run_in_production(tmp_path: Path) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--data", str(tmp_path))
    with process(*arguments, env={"MALLWATT_ENV": "production"}) as running:
        out, err = running.communicate(timeout=10)
    assert (running.returncode, out) == (1, "")
    assert err == "sandbox: the sandbox does not run with MALLWATT_ENV=production\n"


def test_no_app_is_made_in_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLWATT_ENV", "production")
    with pytest.raises(SandboxRefusedError):
        create_app(SandboxConfig("http://127.0.0.1:1", tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2"])
def test_loopback_is_wherever_it_is(host: str) -> None:
    with bind_loopback(host, "0") as place:
        assert place.getsockname()[0].startswith("127.")


def test_keys_are_made_once_and_for_their_owner(keys: SandboxKeys) -> None:
    for path in keys.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    again = ensure_keys(keys.folder)
    assert again.apiv3_key == keys.apiv3_key
    for name in ("wechat_merchant", "wechat_platform", "alipay_app", "alipay_platform"):
        assert getattr(again, name).private_numbers() == getattr(keys, name).private_numbers()
    assert (keys.folder / "wechat_platform.pem").read_bytes() == public_pem(
        keys.wechat_platform.public_key()
    )


def test_two_processes_that_make_keys_end_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = iter([generate_private_key(65537, 1024) for _ in range(8)])  # noqa: S505 - quick ones
    monkeypatch.setattr(keys_module, "generate_private_key", lambda **_: next(ready))
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(ensure_keys, [tmp_path] * 2)
    final = ensure_keys(tmp_path)
    for made in (one, two):
        assert made.apiv3_key == final.apiv3_key
        assert made.alipay_platform.private_numbers() == final.alipay_platform.private_numbers()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "alipay_app.pem",
        "alipay_app_public.pem",
        "alipay_platform.pem",
        "alipay_platform_private.pem",
        "apiv3.txt",
        "wechat_merchant.pem",
        "wechat_platform.pem",
        "wechat_platform_private.pem",
    ]
