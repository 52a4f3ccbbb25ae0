"""The sandbox's WeChat API: logins, tokens, subscribe messages and mini-program codes.

Paths, layouts and error codes are the real ones (developers.weixin.qq.com/miniprogram/dev/
OpenApiDoc); `/control/weixin/...` is for scripts.
"""

import io
import itertools
import re
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import segno
from sanic import Blueprint, HTTPResponse, Request
from sanic import json as json_answer
from sanic.response import raw

from payments.sandbox.state import Sandbox

TOKEN_LIFE_S = 7200
MESSAGES_MAX = 1000
CODES_MAX = 10_000
TOKENS_MAX = 100

_DEMO_CODE = re.compile(r"demo-([0-9A-Za-z_-]{1,64})", re.ASCII)
_OPENID = re.compile(r"o[0-9A-Za-z_-]{1,127}", re.ASCII)
_TEMPLATE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@._~-]{1,32}", re.ASCII)
_PAGE = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_/-]{0,127}", re.ASCII)

# What a field of a template may hold, by the letters of its name.
_FIELD = re.compile(r"([a-z_]+)[0-9]+", re.ASCII)
_FIELD_FORMS = {
    "thing": re.compile(r".{1,20}"),
    "character_string": re.compile(r"[\x20-\x7e]{1,32}", re.ASCII),
    "number": re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?", re.ASCII),
    "letter": re.compile(r"[A-Za-z]{1,32}", re.ASCII),
    "symbol": re.compile(r"[^\w\s]{1,5}"),
    "time": re.compile(r".{1,32}"),
    "date": re.compile(r".{1,32}"),
    "amount": re.compile(r"[¥￥$€-]{0,2}[0-9]{1,10}(\.[0-9]{1,2})?元?"),
    "phone_number": re.compile(r"[0-9+() -]{1,17}", re.ASCII),
    "car_number": re.compile(r".{1,8}"),
    "name": re.compile(r"[^0-9]{1,10}|[A-Za-z ]{1,20}"),
    "phrase": re.compile(r"[\u4e00-\u9fff]{1,5}"),
    "const": re.compile(r".{1,20}"),
}


class WeixinError(Exception):
    """An answer with an errcode."""

    def __init__(self, errcode: int, errmsg: str, status: int = 200) -> None:
        super().__init__(errmsg)
        self.status = status
        self.errcode = errcode
        self.errmsg = errmsg


class _Login(msgspec.Struct):
    openid: str


class _Refuse(msgspec.Struct):
    openid: str
    refused: bool = True


class _Fail(msgspec.Struct):
    """The next `times` calls of `path` answer `errcode`, or HTTP `status`."""

    path: str
    errcode: int = 0
    status: int = 200
    times: int = 1


class _TokenCall(msgspec.Struct):
    grant_type: str = ""
    appid: str = ""
    secret: str = ""
    force_refresh: bool = False


class _Value(msgspec.Struct):
    value: str


class _MessageCall(msgspec.Struct):
    touser: str = ""
    template_id: str = ""
    page: str = ""
    data: dict[str, _Value] = {}
    miniprogram_state: str = "formal"
    lang: str = "zh_CN"


class _CodeCall(msgspec.Struct):
    scene: str = ""
    page: str = ""
    width: int = 430


@dataclass(slots=True)
class _State:
    """What the API remembers; a restart forgets it, as codes and tokens are short-lived."""

    codes: dict[str, str] = field(default_factory=dict)
    used_codes: deque[str] = field(default_factory=lambda: deque(maxlen=CODES_MAX))
    tokens: dict[str, float] = field(default_factory=dict)  # token -> monotonic end
    stable_token: str = ""
    messages: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MESSAGES_MAX))
    refusing: set[str] = field(default_factory=set)
    failures: deque[_Fail] = field(default_factory=lambda: deque(maxlen=100))
    calls: Counter[str] = field(default_factory=Counter)
    msgids: "itertools.count[int]" = field(
        default_factory=lambda: itertools.count(2_000_000_000_000_000_001)
    )


def blueprint(sandbox: Sandbox) -> Blueprint:
    """All of the WeChat API's routes."""
    routes = Blueprint("sandbox_weixin")
    state = _State()
    _add_logins(routes, sandbox, state)
    _add_tokens(routes, sandbox, state)
    _add_messages(routes, sandbox, state)
    _add_codes(routes, state)
    _add_control(routes, state)

    async def refuse(_: Request, error: WeixinError) -> HTTPResponse:
        rid = f"{secrets.token_hex(4)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        content = {"errcode": error.errcode, "errmsg": f"{error.errmsg} rid: {rid}"}
        return json_answer(content, status=error.status)

    routes.exception(WeixinError)(refuse)
    return routes


def _add_logins(routes: Blueprint, sandbox: Sandbox, state: _State) -> None:
    @routes.get("/sns/jscode2session")
    async def code_to_session(request: Request) -> HTTPResponse:
        _count(request, state)
        _check_app(sandbox, request.args.get("appid", ""), request.args.get("secret", ""))
        if request.args.get("grant_type") != "authorization_code":
            raise WeixinError(40002, "invalid grant_type")
        openid = _take_code(state, request.args.get("js_code", ""))
        session_key = secrets.token_urlsafe(16)[:22] + "=="
        return json_answer({"session_key": session_key, "openid": openid})


def _take_code(state: _State, code: str) -> str:
    """The openid of a code that works once; a demo code works always."""
    if not code:
        raise WeixinError(41008, "missing code")
    demo = _DEMO_CODE.fullmatch(code)
    if demo is not None:
        return f"o-{demo.group(1)}"
    if code in state.used_codes:
        raise WeixinError(40163, "code been used")
    openid = state.codes.pop(code, None)
    if openid is None:
        raise WeixinError(40029, "invalid code")
    state.used_codes.append(code)
    return openid


def _add_tokens(routes: Blueprint, sandbox: Sandbox, state: _State) -> None:
    @routes.post("/cgi-bin/stable_token")
    async def stable(request: Request) -> HTTPResponse:
        _count(request, state)
        asked = _read(request.body, _TokenCall)
        _check_grant(sandbox, asked)
        left_s = int(state.tokens.get(state.stable_token, 0) - time.monotonic())
        if asked.force_refresh or left_s <= 0:
            state.tokens.pop(state.stable_token, None)
            state.stable_token, left_s = _issue(state), TOKEN_LIFE_S
        return json_answer({"access_token": state.stable_token, "expires_in": left_s})

    @routes.get("/cgi-bin/token")
    async def plain(request: Request) -> HTTPResponse:
        _count(request, state)
        asked = _TokenCall(
            request.args.get("grant_type", ""),
            request.args.get("appid", ""),
            request.args.get("secret", ""),
        )
        _check_grant(sandbox, asked)
        return json_answer({"access_token": _issue(state), "expires_in": TOKEN_LIFE_S})


def _issue(state: _State) -> str:
    now = time.monotonic()
    for token in [token for token, end in state.tokens.items() if end <= now]:
        del state.tokens[token]
    while len(state.tokens) >= TOKENS_MAX:
        del state.tokens[next(iter(state.tokens))]
    token = f"{secrets.randbelow(90) + 10}_{secrets.token_urlsafe(90)}"
    state.tokens[token] = now + TOKEN_LIFE_S
    return token


def _add_messages(routes: Blueprint, sandbox: Sandbox, state: _State) -> None:
    @routes.post("/cgi-bin/message/subscribe/send")
    async def send(request: Request) -> HTTPResponse:
        _count(request, state)
        _check_token(request, state)
        call = _read(request.body, _MessageCall)
        _check_message(call, state)
        msgid = next(state.msgids)
        state.messages.append(
            {
                "msgid": msgid,
                "touser": call.touser,
                "template_id": call.template_id,
                "page": call.page,
                "data": {name: item.value for name, item in call.data.items()},
                "sent_at": sandbox.now().isoformat(),
            }
        )
        return json_answer({"errcode": 0, "errmsg": "ok", "msgid": msgid})


def _check_message(call: _MessageCall, state: _State) -> None:
    if not _OPENID.fullmatch(call.touser):
        raise WeixinError(40003, "invalid openid")
    if not _TEMPLATE_ID.fullmatch(call.template_id):
        raise WeixinError(40037, "invalid template_id")
    if call.page and not _PAGE.fullmatch(call.page.partition("?")[0]):
        raise WeixinError(41030, "invalid page")
    if not call.data:
        raise WeixinError(47003, "argument invalid! data is empty")
    for name, item in call.data.items():
        kind = _FIELD.fullmatch(name)
        form = _FIELD_FORMS.get(kind.group(1)) if kind else None
        if form is None or form.fullmatch(item.value) is None:
            raise WeixinError(47003, f"argument invalid! data.{name}.value invalid")
    if call.touser in state.refusing:
        raise WeixinError(43101, "user refuse to accept the msg")


def _add_codes(routes: Blueprint, state: _State) -> None:
    @routes.post("/wxa/getwxacodeunlimit")
    async def unlimited(request: Request) -> HTTPResponse:
        _count(request, state)
        _check_token(request, state)
        call = _read(request.body, _CodeCall)
        if not _SCENE.fullmatch(call.scene):
            raise WeixinError(40169, "invalid length for scene, or the data is not json string")
        if call.page and not _PAGE.fullmatch(call.page):
            raise WeixinError(41030, "invalid page")
        if not 280 <= call.width <= 1280:
            raise WeixinError(40097, "invalid args")
        picture = io.BytesIO()
        code = segno.make(f"{call.page or 'pages/index/index'}?scene={call.scene}", micro=False)
        code.save(picture, kind="png", scale=max(1, call.width // code.symbol_size()[0]))
        return raw(picture.getvalue(), content_type="image/png")


def _add_control(routes: Blueprint, state: _State) -> None:
    @routes.post("/control/weixin/login")
    async def login(request: Request) -> HTTPResponse:
        return json_answer({"code": _new_code(state, _read(request.body, _Login).openid)})

    @routes.get("/control/weixin/messages")
    async def messages(_: Request) -> HTTPResponse:
        return json_answer({"items": list(state.messages)})

    @routes.get("/control/weixin/calls")
    async def calls(_: Request) -> HTTPResponse:
        return json_answer(dict(state.calls))

    @routes.post("/control/weixin/refuse")
    async def refuse(request: Request) -> HTTPResponse:
        asked = _read(request.body, _Refuse)
        if asked.refused and len(state.refusing) < CODES_MAX:
            state.refusing.add(asked.openid)
        elif not asked.refused:
            state.refusing.discard(asked.openid)
        return json_answer({"refusing": sorted(state.refusing)})

    @routes.post("/control/weixin/expire-tokens")
    async def expire(_: Request) -> HTTPResponse:
        state.tokens.clear()
        return json_answer({})

    @routes.post("/control/weixin/fail")
    async def fail(request: Request) -> HTTPResponse:
        state.failures.append(_read(request.body, _Fail))
        return json_answer({})


def _new_code(state: _State, openid: str) -> str:
    """A login code for this person, as wx.login would give."""
    if not _OPENID.fullmatch(openid):
        raise WeixinError(40003, "invalid openid")
    while len(state.codes) >= CODES_MAX:
        del state.codes[next(iter(state.codes))]
    code = f"0{secrets.token_urlsafe(24)[:31]}"
    state.codes[code] = openid
    return code


def _count(request: Request, state: _State) -> None:
    """Count the call, and fail it where a script asked for that."""
    state.calls[request.path] += 1
    for failure in state.failures:
        if failure.path == request.path and failure.times > 0:
            failure.times -= 1
            raise WeixinError(failure.errcode, "asked for by a script", failure.status)


def _check_app(sandbox: Sandbox, appid: str, secret: str) -> None:
    if appid != sandbox.keys.appid:
        raise WeixinError(40013, "invalid appid")
    if not secret:
        raise WeixinError(41004, "appsecret missing")


def _check_grant(sandbox: Sandbox, asked: _TokenCall) -> None:
    if asked.grant_type != "client_credential":
        raise WeixinError(40002, "invalid grant_type")
    _check_app(sandbox, asked.appid, asked.secret)


def _check_token(request: Request, state: _State) -> None:
    token = request.args.get("access_token", "")
    if not token:
        raise WeixinError(41001, "access_token missing")
    if state.tokens.get(token, 0.0) <= time.monotonic():
        raise WeixinError(40001, "invalid credential, access_token is invalid or not latest")


def _read(body: bytes, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise WeixinError(47001, "data format error") from None
