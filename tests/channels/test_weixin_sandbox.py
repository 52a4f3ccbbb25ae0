"""The sandbox's WeChat API as a stranger's script sees it."""

import httpx
import pytest

from payments.sandbox.keys import WECHAT_APPID

GRANT = {"grant_type": "client_credential", "appid": WECHAT_APPID, "secret": "s"}


async def stable(control: httpx.AsyncClient, **change: object) -> dict[str, object]:
    answer: dict[str, object] = (
        await control.post("/cgi-bin/stable_token", json=GRANT | change)
    ).json()
    return answer


async def test_a_stable_token_stays_until_a_new_one_is_forced(control: httpx.AsyncClient) -> None:
    first, again = await stable(control), await stable(control)
    forced = await stable(control, force_refresh=True)
    plain = (await control.get("/cgi-bin/token", params=GRANT)).json()

    assert first["access_token"] == again["access_token"]
    assert forced["access_token"] not in {first["access_token"], plain["access_token"]}
    assert (await stable(control))["access_token"] == forced["access_token"]
    assert plain["expires_in"] == 7200


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"appid": "wx1"}, 40013),
        ({"secret": ""}, 41004),
        ({"grant_type": "x"}, 40002),
        ({"appid": 1}, 47001),
    ],
)
async def test_a_token_is_not_for_everyone(
    control: httpx.AsyncClient, change: dict[str, object], errcode: int
) -> None:
    assert (await stable(control, **change))["errcode"] == errcode


@pytest.mark.parametrize(("params", "errcode"), [({}, 41001), ({"access_token": "made up"}, 40001)])
@pytest.mark.parametrize("path", ["/cgi-bin/message/subscribe/send", "/wxa/getwxacodeunlimit"])
async def test_without_a_token_nothing_is_sent(
    control: httpx.AsyncClient, path: str, params: dict[str, str], errcode: int
) -> None:
    answer = (await control.post(path, params=params, content=b"{}")).json()

    assert answer["errcode"] == errcode


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"data":{"thing1":"x"}}'])
async def test_a_body_that_is_no_call_is_47001(control: httpx.AsyncClient, body: bytes) -> None:
    token = (await stable(control))["access_token"]
    answer = await control.post(
        "/cgi-bin/message/subscribe/send", params={"access_token": str(token)}, content=body
    )

    assert answer.json()["errcode"] == 47001
