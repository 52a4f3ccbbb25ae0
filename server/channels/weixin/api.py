"""wechatpy with its faults cured: whose base URL, which token, how often, how long.

wechatpy 1.8.18 has the API's host fixed in two places, asks for a token before a login and puts it
into the login's URL, fetches a token for each concurrent call, and repeats a call without end
while WeChat answers 40001. Everything here runs in a thread and raises only ChannelError.
"""

from collections.abc import Callable, Mapping
from typing import Any

import requests
from wechatpy.client import WeChatClient
from wechatpy.exceptions import WeChatClientException

from server.channels.contract import Message, Shipment
from server.channels.weixin import errors
from server.channels.weixin.fields import fit_fields
from server.channels.weixin.http import BoundedSession
from server.channels.weixin.tokens import TokenStore

TOKEN_MARGIN_S = 300  # WeChat keeps the old token alive for five minutes after a renewal
CODE_WIDTH_PX = 430
BY_TRANSACTION_ID = 2  # the other way is by merchant and out_trade_no
VIRTUAL_GOODS = 3
ALL_AT_ONCE = 1
ITEM_CHARS_MAX = 120

_JSON = {"Content-Type": "application/json; charset=utf-8"}


class WeixinApi(WeChatClient):  # type: ignore[misc]  # wechatpy ships no types
    """One mini-program; many threads may call it."""

    def __init__(
        self, app_id: str, secret: str, api_url: str, store: TokenStore, connections: int
    ) -> None:
        super().__init__(app_id, secret, auto_retry=False)
        self._http: BoundedSession = BoundedSession(api_url, connections)
        self._url = api_url.rstrip("/")
        self._store = store
        self.API_BASE_URL = f"{self._url}/cgi-bin/"
        self.wxa.API_BASE_URL = f"{self._url}/"

    def login(self, code: str) -> str:
        """The openid behind a wx.login code."""
        return _text(_typed(lambda: self.wxa.code_to_session(code)), "openid")

    def send(self, message: Message) -> str:
        """Hand over a subscribe message; WeChat's msgid, or "" where it names none."""
        answer = _typed(
            lambda: self.wxa.send_subscribe_message(
                message.address,
                message.template_id,
                fit_fields(message.fields),
                page=message.page.lstrip("/") or None,
            )
        )
        if not isinstance(answer, Mapping) or answer.get("errcode") != 0:
            raise errors.bad_answer("the answer has no errcode")
        return str(answer.get("msgid", ""))  # taken over is taken over, named or not

    def tell_shipped(self, shipment: Shipment, told_at: str) -> None:
        """Say that what a payment was for is delivered: virtual goods, all at once."""
        answer = _typed(
            lambda: self.post(
                "wxa/sec/order/upload_shipping_info",
                api_base_url=f"{self._url}/",
                data={
                    "order_key": {
                        "order_number_type": BY_TRANSACTION_ID,
                        "transaction_id": shipment.transaction_id,
                    },
                    "logistics_type": VIRTUAL_GOODS,
                    "delivery_mode": ALL_AT_ONCE,
                    "shipping_list": [{"item_desc": shipment.description[:ITEM_CHARS_MAX]}],
                    "upload_time": told_at,
                    "payer": {"openid": shipment.address},
                },
            )
        )
        if not isinstance(answer, Mapping) or answer.get("errcode") != 0:
            raise errors.bad_answer("the answer has no errcode")

    def code_picture(self, scene: str, page: str) -> bytes:
        """The picture of a mini-program code that carries `scene`."""
        answer = _typed(
            lambda: self.wxa.get_wxa_code_unlimited(
                scene, width=CODE_WIDTH_PX, page=page.lstrip("/") or None
            )
        )
        kind = answer.headers.get("content-type", "") if _is_response(answer) else ""
        if not kind.startswith("image/"):
            raise errors.bad_answer("the answer is no picture")
        return bytes(answer.content)

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    # What wechatpy does otherwise

    @property
    def access_token(self) -> str:
        """The shared token; fetched by one caller while the others wait."""
        return self._store.get(self.appid) or self._renewed(None)

    def fetch_access_token(self) -> dict[str, str]:
        """A token in place of the one in use."""
        return {"access_token": self._renewed(self._store.get(self.appid))}

    def _request(self, method: str, url_or_endpoint: str, **kwargs: Any) -> Any:
        """With a token, renewed at most once; without one where the secret authorises."""
        params = dict(kwargs.pop("params", None) or {})
        if isinstance(kwargs.get("data"), dict):
            kwargs["headers"] = _JSON  # wechatpy makes JSON of it and does not say so
        if "secret" in params:
            # wechatpy adds no token to parameters that are a list.
            return super()._request(method, url_or_endpoint, params=list(params.items()), **kwargs)
        token = self.access_token
        try:
            return super()._request(
                method, url_or_endpoint, params=params | {"access_token": token}, **kwargs
            )
        except WeChatClientException as error:
            if error.errcode not in errors.TOKEN_CODES:
                raise
        token = self._renewed(token)
        return super()._request(
            method, url_or_endpoint, params=params | {"access_token": token}, **kwargs
        )

    def _renewed(self, bad: str | None) -> str:
        """A token other than `bad`: somebody else's by now, or a new one."""
        with self._store.lock(self.appid):
            kept = self._store.get(self.appid)
            if kept and kept != bad:
                return kept
            token, life_s = self._fetch(force=False)
            if token == bad:  # WeChat believes in a token that it refuses: insist
                token, life_s = self._fetch(force=True)
            margin_s = TOKEN_MARGIN_S if life_s > 2 * TOKEN_MARGIN_S else life_s // 2
            self._store.set(self.appid, token, max(1, life_s - margin_s))
            return token

    def _fetch(self, *, force: bool) -> tuple[str, int]:
        answer = self._http.request(
            method="post",
            url=f"{self._url}/cgi-bin/stable_token",
            json={
                "grant_type": "client_credential",
                "appid": self.appid,
                "secret": self.secret,
                "force_refresh": force,
            },
        )
        if answer.status_code != requests.codes.ok:
            raise errors.error_from_status(answer.status_code)
        content = answer.json()
        if content.get("errcode"):
            raise errors.error_from_code(int(content["errcode"]), content.get("errmsg"))
        return _text(content, "access_token"), int(content["expires_in"])


def _typed(call: Callable[[], Any]) -> Any:
    """The answer; whatever wechatpy and requests raise comes out as a ChannelError.

    The causes are left behind: a requests error quotes its URL, which holds secret or token.
    """
    try:
        return call()
    except WeChatClientException as error:
        if error.errcode is None:
            raise errors.error_from_status(error.response.status_code) from None
        raise errors.error_from_code(error.errcode, error.errmsg) from None
    except requests.JSONDecodeError:
        raise errors.bad_answer("the answer is no JSON") from None
    except requests.RequestException as error:
        raise errors.no_answer(type(error).__name__) from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # wechatpy takes an answer's form on trust.
        raise errors.bad_answer(f"an answer in no known form ({type(error).__name__})") from None


def _text(answer: object, name: str) -> str:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise errors.bad_answer(f"the answer has no {name}")
    return str(value)


def _is_response(answer: object) -> bool:
    return isinstance(answer, requests.Response)
