"""The WeChat API client against the sandbox, over loopback sockets."""

import asyncio
import logging
import traceback
from datetime import UTC, datetime

import httpx
import pytest

from payments.sandbox.state import Sandbox
from server.channels.contract import ChannelError, LoginProvider, Message, MessageChannel
from server.channels.weixin import api, client
from server.channels.weixin.client import WeixinClient, build
from server.channels.weixin.fields import fit_value
from server.channels.weixin.tokens import MemoryTokenStore
from tests.channels.conftest import SECRET, Connect

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
SEND = "/cgi-bin/message/subscribe/send"
TOKEN = "/cgi-bin/stable_token"
LOGIN = "/sns/jscode2session"


def message(address: str = "o-alice", **fields: str) -> Message:
    return Message(address, "T-1", fields or {"thing1": "A101"}, "/pages/shop/index")


async def calls(control: httpx.AsyncClient, path: str) -> int:
    counted: dict[str, int] = (await control.get("/control/weixin/calls")).json()
    return counted.get(path, 0)


async def fail(control: httpx.AsyncClient, path: str, **how: int) -> None:
    await control.post("/control/weixin/fail", json={"path": path, **how})


def check_is_a_login_provider(weixin: WeixinClient) -> tuple[LoginProvider, MessageChannel]:
    return weixin, weixin


# Logins


async def test_a_login_code_works_once(weixin: WeixinClient, control: httpx.AsyncClient) -> None:
    tokens = await calls(control, TOKEN)
    code = (await control.post("/control/weixin/login", json={"openid": "o-bob"})).json()["code"]

    assert await weixin.openid(code) == "o-bob"
    with pytest.raises(ChannelError) as used:
        await weixin.openid(code)

    assert (used.value.code, used.value.transient) == ("40163", False)
    assert await calls(control, TOKEN) == tokens  # a login needs no access token


async def test_a_demo_code_names_its_person(weixin: WeixinClient) -> None:
    assert await weixin.openid("demo-alice") == await weixin.openid("demo-alice") == "o-alice"


@pytest.mark.parametrize("code", ["", "nobody", "x" * 129, "登录", "a\nb", "a&appid=x"])
async def test_a_wrong_code_is_final(weixin: WeixinClient, code: str) -> None:
    with pytest.raises(ChannelError) as wrong:
        await weixin.openid(code)

    assert (wrong.value.code, wrong.value.transient) == ("40029", False)


async def test_another_apps_client_is_refused(sandbox: Sandbox) -> None:
    other = build("wx0000000000000002", SECRET, sandbox.public_url, MemoryTokenStore())

    with pytest.raises(ChannelError) as login:
        await other.openid("demo-alice")
    with pytest.raises(ChannelError) as send:
        await other.send(message(), NOW)
    await other.aclose()

    assert login.value.code == send.value.code == "40013"


# Messages


async def test_a_message_arrives_as_it_was_meant(
    weixin: WeixinClient, control: httpx.AsyncClient
) -> None:
    sent = await weixin.send(message(thing1="示范商场 A101", amount2="12.34元"), NOW)
    kept = (await control.get("/control/weixin/messages")).json()["items"][-1]
    kept.pop("sent_at")

    assert kept == {
        "msgid": int(sent.channel_id),
        "touser": "o-alice",
        "template_id": "T-1",
        "page": "pages/shop/index",
        "data": {"thing1": "示范商场 A101", "amount2": "12.34元"},
    }


@pytest.mark.parametrize(
    ("name", "value", "fitted"),
    [
        ("thing1", "长" * 20, "长" * 20),
        ("thing1", "长" * 21, "长" * 19 + "…"),
        ("thing1", "两行\n 一行", "两行 一行"),
        ("thing1", "", "-"),
        ("name2", "n" * 12, "n" * 10),
        ("phrase3", "已经断电停止供应", "已经断电停"),
        ("character_string4", "M" * 40, "M" * 32),
        ("amount5", "123456789012345", "123456789012345"),
        (
            "time6",
            "2026年5月24日 10:00~2026年5月25日 10:00",
            "2026年5月24日 10:00~2026年5月25日 10:00",
        ),
        ("unknown", "x" * 50, "x" * 50),
    ],
)
def test_words_are_shortened_and_numbers_never(name: str, value: str, fitted: str) -> None:
    assert fit_value(name, value) == fitted


async def test_without_consent_a_message_is_finally_refused(
    weixin: WeixinClient, control: httpx.AsyncClient
) -> None:
    await control.post("/control/weixin/refuse", json={"openid": "o-carol"})

    with pytest.raises(ChannelError) as refused:
        await weixin.send(message("o-carol"), NOW)

    assert (refused.value.code, refused.value.transient) == ("43101", False)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (message("alice"), "40003"),
        (message(amount1="a lot"), "47003"),
        (message(thing="A101"), "47003"),
        (Message("o-alice", "模板", {"thing1": "x"}), "40037"),
    ],
)
async def test_what_wechat_refuses_is_final(weixin: WeixinClient, bad: Message, code: str) -> None:
    with pytest.raises(ChannelError) as refused:
        await weixin.send(bad, NOW)

    assert (refused.value.code, refused.value.transient) == (code, False)


@pytest.mark.parametrize(
    ("how", "code", "transient"),
    [
        ({"errcode": -1}, "-1", True),
        ({"errcode": 45009}, "45009", True),
        ({"errcode": 43108}, "43108", True),
        ({"errcode": 41030}, "41030", False),
        ({"status": 500}, "http_500", True),
        ({"status": 429}, "http_429", True),
        ({"status": 404}, "http_404", False),
    ],
)
async def test_what_may_pass_says_so(
    weixin: WeixinClient,
    control: httpx.AsyncClient,
    how: dict[str, int],
    code: str,
    transient: bool,
) -> None:
    await fail(control, SEND, **how)

    with pytest.raises(ChannelError) as failed:
        await weixin.send(message(), NOW)

    assert (failed.value.code, failed.value.transient) == (code, transient)
    assert await weixin.send(message(), NOW)


@pytest.mark.parametrize(
    ("content", "channel_id"),
    [
        (b'{"errcode":0,"errmsg":"ok","msgid":2000000000000000001}', "2000000000000000001"),
        (b'{"errcode":0,"errmsg":"ok"}', ""),
    ],
)
async def test_taken_over_is_taken_over_named_or_not(content: bytes, channel_id: str) -> None:
    store = MemoryTokenStore()
    store.set("wx0000000000000001", "token", 60)
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        weixin = build("wx0000000000000001", SECRET, f"http://127.0.0.1:{port}", store)
        sent = await weixin.send(message(), NOW)
        await weixin.aclose()

    assert sent.channel_id == channel_id
    assert heads[0].startswith(b"POST /cgi-bin/message/subscribe/send?access_token=token ")
    assert b"content-type: application/json" in heads[0].lower()


async def test_neither_secret_nor_token_is_logged(
    weixin: WeixinClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await weixin.openid("demo-alice")
        await weixin.send(message(), NOW)

    assert SECRET not in caplog.text
    assert "access_token=" not in caplog.text


# Tokens


async def test_twenty_messages_over_four_clients_fetch_one_token(
    connect: Connect, control: httpx.AsyncClient
) -> None:
    store = MemoryTokenStore()
    clients = [connect(store) for _ in range(4)]
    before = await calls(control, TOKEN)

    sent = await asyncio.gather(*(clients[i % 4].send(message(), NOW) for i in range(20)))

    assert len({one.channel_id for one in sent}) == 20
    assert await calls(control, TOKEN) == before + 1


async def test_a_lost_token_is_renewed_once_for_all(
    connect: Connect, control: httpx.AsyncClient
) -> None:
    store = MemoryTokenStore()
    clients = [connect(store) for _ in range(4)]
    await clients[0].send(message(), NOW)
    before = await calls(control, TOKEN)
    await control.post("/control/weixin/expire-tokens")

    await asyncio.gather(*(clients[i % 4].send(message(), NOW) for i in range(20)))

    assert await calls(control, TOKEN) == before + 1


async def test_a_lasting_40001_ends_after_one_renewal(
    weixin: WeixinClient, control: httpx.AsyncClient
) -> None:
    await weixin.send(message(), NOW)
    before = (await calls(control, SEND), await calls(control, TOKEN))
    await fail(control, SEND, errcode=40001, times=2)

    with pytest.raises(ChannelError) as failed:
        await weixin.send(message(), NOW)

    sends = await calls(control, SEND) - before[0]
    fetches = await calls(control, TOKEN) - before[1]
    assert (failed.value.code, failed.value.transient) == ("40001", True)
    assert sends == 2
    assert fetches == 2  # the same token came back, so the second time a new one was insisted on


async def test_a_token_that_cannot_be_had_is_told(
    connect: Connect, control: httpx.AsyncClient
) -> None:
    fresh = connect(MemoryTokenStore())
    await fail(control, TOKEN, errcode=40125)
    await fail(control, TOKEN, status=503)

    with pytest.raises(ChannelError) as secret:
        await fresh.send(message(), NOW)
    with pytest.raises(ChannelError) as away:
        await fresh.send(message(), NOW)

    assert (secret.value.code, secret.value.transient) == ("40125", False)
    assert (away.value.code, away.value.transient) == ("http_503", True)


# Codes


async def test_a_code_is_a_picture(weixin: WeixinClient) -> None:
    picture = await weixin.unlimited_code("s=AbCd1234", "pages/shop/index")

    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("scene", "page", "code"),
    [
        ("", "p", "40169"),
        ("x" * 33, "p", "40169"),
        ("含有汉字", "p", "40169"),
        ("a", "no such page", "41030"),
    ],
)
async def test_a_code_that_wechat_refuses(
    weixin: WeixinClient, scene: str, page: str, code: str
) -> None:
    with pytest.raises(ChannelError) as refused:
        await weixin.unlimited_code(scene, page)

    assert (refused.value.code, refused.value.transient) == (code, False)


# A peer that misbehaves


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param(b"", "no_answer", id="hangs up"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n<p>", "bad_answer", id="HTML"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "bad_answer", id="a list"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "bad_answer", id="nothing"),
        pytest.param(
            b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"errcode":null}',
            "bad_answer",
            id="null",
        ),
        pytest.param(
            b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"openid":[{}]}',
            "bad_answer",
            id="object",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"[" * 200_000,
            "bad_answer",
            id="deep",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 9_000_000,
            "no_answer",
            id="endless",
        ),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "bad_answer",
            id="a redirect",
        ),
    ],
)
async def test_a_strange_answer_is_transient_and_keeps_the_secret(reply: bytes, code: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        weixin = build(
            "wx0000000000000001", "s3cr3t", f"http://127.0.0.1:{port}", MemoryTokenStore()
        )
        with pytest.raises(ChannelError) as strange:
            await weixin.openid("code")
        await weixin.aclose()

    assert (strange.value.code, strange.value.transient) == (code, True)
    assert "s3cr3t" not in "".join(traceback.format_exception(strange.value))


async def test_nobody_there_is_transient() -> None:
    weixin = build("wx0000000000000001", "s", "http://127.0.0.1:1", MemoryTokenStore())

    with pytest.raises(ChannelError) as nobody:
        await weixin.openid("code")
    await weixin.aclose()

    assert (nobody.value.code, nobody.value.transient) == ("no_answer", True)


async def test_a_silent_peer_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.channels.weixin.http.READ_TIMEOUT_S", 0.05)
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        weixin = build("wx0000000000000001", "s", f"http://127.0.0.1:{port}", MemoryTokenStore())
        with pytest.raises(ChannelError) as silent:
            await weixin.openid("code")
        await weixin.aclose()
        for writer in held:
            writer.close()

    assert (silent.value.code, silent.value.transient) == ("no_answer", True)


async def test_a_queue_has_an_end(weixin: WeixinClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALLS_MAX", 2)

    sent = await asyncio.gather(
        *(weixin.send(message(), NOW) for _ in range(3)), return_exceptions=True
    )

    errors = [one for one in sent if isinstance(one, ChannelError)]
    assert [(error.code, error.transient) for error in errors] == [("busy", True)]


async def test_a_closed_client_takes_no_calls(connect: Connect) -> None:
    closed = connect(MemoryTokenStore())
    await closed.aclose()

    with pytest.raises(ChannelError):
        await closed.openid("demo-alice")


def test_wechatpys_own_host_is_gone() -> None:
    it = api.WeixinApi("wx1", "s", "http://127.0.0.1:1/", MemoryTokenStore(), 1)

    assert it.API_BASE_URL == "http://127.0.0.1:1/cgi-bin/"
    assert it.wxa.API_BASE_URL == "http://127.0.0.1:1/"
    it.close()
