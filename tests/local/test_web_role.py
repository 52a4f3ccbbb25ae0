"""The web role as a process runs it: merchants, a Redis that hangs, stopping, what is logged."""

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sanic import Sanic

from payments.contract import Method, Platform
from payments.sandbox.keys import ALIPAY_APP_ID, ALIPAY_SELLER_ID
from server import cli, merchants
from server.app import open_outside, serve_web
from server.logs import configure_logging
from server.merchants import Merchants
from server.models.database import pool, rows, to_json
from server.services.wakeups import Wakeups
from server.settings import Settings, load_settings
from tests.fakes.empty_site import empty_site
from tests.fakes.keys import keys_in
from tests.http import http_client

NEW_MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES ($1, $2, $3, $4, $5::jsonb)
"""


def settings_of(folder: Path, **environ: str) -> Settings:
    """Settings of a development process."""
    return load_settings({"MALLWATT_DATA_DIR": str(folder), **environ})


async def a_site_with_alipay(folder: Path) -> int:
    """A site whose Alipay merchant has the sandbox's keys."""
    keys = keys_in(folder / "keys").folder
    settings = {
        "app_id": ALIPAY_APP_ID,
        "seller_id": ALIPAY_SELLER_ID,
        "private_key_file": str(keys / "alipay_app.pem"),
        "alipay_public_key_file": str(keys / "alipay_platform.pem"),
    }
    site_id = await empty_site("demo")
    ids = (Platform.ALIPAY.value, ALIPAY_SELLER_ID, ALIPAY_APP_ID)
    await rows(pool(), NEW_MERCHANT, site_id, *ids, to_json(settings))
    return site_id


async def with_wechat(site_id: int, folder: Path, *, platform_certificates: bool = False) -> None:
    """The same site with WeChat Pay too, by its key or by its certificates."""
    keys = keys_in(folder / "keys")
    settings: dict[str, object] = {
        "mchid": keys.mchid,
        "appid": keys.appid,
        "apiv3_key_file": str(keys.folder / "apiv3.txt"),
        "private_key_file": str(keys.folder / "wechat_merchant.pem"),
        "cert_serial": keys.cert_serial,
    }
    settings |= (
        {"platform_certificates": True}
        if platform_certificates
        else {
            "platform_public_key_file": str(keys.folder / "wechat_platform.pem"),
            "platform_public_key_id": keys.platform_public_key_id,
        }
    )
    ids = (Platform.WECHAT.value, keys.mchid, keys.appid)
    await rows(pool(), NEW_MERCHANT, site_id, *ids, to_json(settings))


async def test_a_merchant_is_built_once_until_its_keys_change(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_id = await a_site_with_alipay(tmp_path)
    directory = Merchants(settings_of(tmp_path))
    first = await directory.of_site(site_id, Platform.ALIPAY)
    assert first is not None
    assert await directory.methods(site_id) == [Method.ALIPAY_WAP, Method.ALIPAY_QR]
    assert await directory.of_site(site_id, Platform.WECHAT) is None
    monkeypatch.setattr(merchants, "KEPT_S", -1.0)
    many = await asyncio.gather(*(directory.of_site(site_id, Platform.ALIPAY) for _ in range(9)))
    assert all(one is first for one in many)
    os.utime(tmp_path / "keys" / "alipay_app.pem")
    assert await directory.of_site(site_id, Platform.ALIPAY) is not first
    await directory.aclose()


async def test_what_was_replaced_is_closed_once_nobody_can_be_using_it(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_id = await a_site_with_alipay(tmp_path)
    directory = Merchants(settings_of(tmp_path))
    monkeypatch.setattr(merchants, "KEPT_S", -1.0)
    old = await directory.of_site(site_id, Platform.ALIPAY)
    assert old is not None
    closed: list[bool] = []

    async def closes() -> None:
        closed.append(True)

    monkeypatch.setattr(old, "aclose", closes)
    os.utime(tmp_path / "keys" / "alipay_app.pem")
    await directory.of_site(site_id, Platform.ALIPAY)
    assert closed == [], "a call may be under way"
    monkeypatch.setattr(time, "monotonic", lambda: 10.0**9)
    await directory.of_site(site_id, Platform.ALIPAY)
    assert closed == [True]
    monkeypatch.undo()
    await directory.aclose()


async def test_unusable_keys_are_said_once_and_do_not_stop_the_others(
    database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site_id = await a_site_with_alipay(tmp_path)
    (tmp_path / "keys" / "alipay_app.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    monkeypatch.setattr(merchants, "KEPT_S", -1.0)
    directory = Merchants(settings_of(tmp_path))
    for _ in range(3):
        assert await directory.methods(site_id) == []
    said = capsys.readouterr()
    assert (said.out + said.err).count("a merchant cannot be used") == 1
    assert "c2VjcmV0" not in said.out + said.err


async def test_a_merchant_can_be_built_without_the_platforms_key(
    database: None, tmp_path: Path
) -> None:
    site_id = await a_site_with_alipay(tmp_path)
    await with_wechat(site_id, tmp_path, platform_certificates=True)
    directory = Merchants(settings_of(tmp_path))
    assert await directory.of_site(site_id, Platform.WECHAT) is not None
    await directory.aclose()


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("apiv3.txt", lambda path: path.unlink(), "apiv3_key_file: cannot be read"),
        ("apiv3.txt", lambda path: path.chmod(0o644), "apiv3_key_file: can be read by others"),
        ("wechat_merchant.pem", lambda path: path.chmod(0o644), "private_key_file: can be read by"),
        ("wechat_merchant.pem", lambda path: path.write_text("x"), "private_key_file: is not the"),
        ("wechat_platform.pem", lambda path: path.write_text("x"), "platform_public_key_file: is"),
    ],
)
async def test_a_key_file_of_one_merchant_does_not_touch_the_other(
    database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    site_id = await a_site_with_alipay(tmp_path)
    await with_wechat(site_id, tmp_path)
    monkeypatch.setattr(merchants, "KEPT_S", -1.0)
    directory = Merchants(settings_of(tmp_path))
    alipay = await directory.of_site(site_id, Platform.ALIPAY)
    assert await directory.of_site(site_id, Platform.WECHAT) is not None

    damage(tmp_path / "keys" / name)  # under way, and looked at anew

    assert await directory.of_site(site_id, Platform.WECHAT) is None
    assert await directory.of_site(site_id, Platform.ALIPAY) is alipay
    assert alipay is not None
    assert said in capsys.readouterr().out
    await directory.aclose()


@asynccontextmanager
async def hanging() -> AsyncIterator[int]:
    """A port where everybody is let in and nobody is ever answered."""
    let_in: list[asyncio.StreamWriter] = []

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        let_in.append(writer)

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    for writer in let_in:
        writer.close()
    server.close()
    await server.wait_closed()


async def test_a_redis_that_hangs_costs_a_second_and_no_more(
    database_url: str, tmp_path: Path
) -> None:
    async with hanging() as port, asyncio.timeout(8):
        environ = {
            "MALLWATT_DATABASE_URL": database_url,
            "MALLWATT_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        }
        async with open_outside(settings_of(tmp_path, **environ)) as outside:
            wakeups: Wakeups = outside.wakeups
            began = time.monotonic()
            await wakeups.tell("inbox")
            await wakeups.tell("inbox")
            assert time.monotonic() - began < 2
            async with wakeups.listen(["inbox"]) as listener:
                assert await listener.wait(0.1) == set()


@asynccontextmanager
async def serving(database_url: str, folder: Path) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """The web role on a port of its own, and the task that it runs in."""
    place = socket.create_server(("127.0.0.1", 0))
    port = place.getsockname()[1]
    settings = settings_of(
        folder, MALLWATT_DATABASE_URL=database_url, MALLWATT_HTTP=f"127.0.0.1:{port}"
    )
    role = asyncio.create_task(serve_web(settings, place))
    url = f"http://127.0.0.1:{port}"
    async with http_client() as client, asyncio.timeout(10):
        await client.get(f"{url}/health/live")  # the place is bound: whoever comes early waits
    try:
        yield url, role
    finally:
        role.cancel()
        await asyncio.wait([role])
        Sanic.unregister_app(Sanic.get_app("mallwatt"))


async def test_stopping_lets_an_answer_be_given_and_hangs_up_the_idle(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = asyncio.Event()

    async def slow_problem() -> None:
        under_way.set()
        await asyncio.sleep(0.7)

    monkeypatch.setattr("server.services.health.database_problem", slow_problem)
    async with serving(database_url, tmp_path) as (url, role), http_client() as idle:
        assert (await idle.get(f"{url}/health/live")).status_code == 200
        async with http_client() as client:
            asked = asyncio.create_task(client.get(f"{url}/health/ready"))
            await under_way.wait()
            began = time.monotonic()
            role.cancel()
            assert (await asked).status_code == 200
            await asyncio.wait([role])
            assert time.monotonic() - began < 3
    assert role.cancelled()


def test_no_log_line_shows_what_a_function_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody has set our form, structlog shows every local: tokens, passwords, keys."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    for environ in (
        {},
        {
            "MALLWATT_ENV": "production",
            "MALLWATT_PUBLIC_URL": "https://mall.example",
            "MALLWATT_SECRET_KEY": "k" * 32,
        },
    ):
        configure_logging(settings_of(tmp_path, **environ))
        _fail_with("a-token-of-somebody")
    said = capsys.readouterr().err
    assert said.count("ZeroDivisionError") >= 2
    assert not re.search(r"a-token-of-somebody(?!\")", said)


def _fail_with(token: str) -> None:
    try:
        assert len(token) / 0
    except ZeroDivisionError:
        logging.getLogger("tests.of.logs").exception("it failed")


def test_an_argument_that_is_no_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["meter", "read", os.fsdecode(b"\xff")]) == 2
    assert capsys.readouterr().err == "mallwatt: an argument is not UTF-8\n"
