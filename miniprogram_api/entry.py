"""Coming in and going out: sessions, the scan, bindings."""

from miniprogram_api import answering, answers
from miniprogram_api.access import tenancy_of
from miniprogram_api.bodies import Bind, LogIn
from miniprogram_api.call import Call
from server.http.bearer import bearer_token
from server.http.bodies import json_body, limited_address
from server.services import bindings, sessions, tenancies


async def open_session(call: Call) -> answers.Session:
    """Log in with a code from wx.login."""
    body = json_body(call.request, LogIn)
    opened = await sessions.log_in(
        call.context.login, body.code, call.now, address=limited_address(call.request)
    )
    return answers.Session(opened.token, opened.expires_at.replace(microsecond=0))


async def end_session(call: Call) -> None:
    """Log out."""
    await sessions.log_out(bearer_token(call.request))


async def get_shop_token(call: Call) -> answers.Scanned:
    """What a scan of the printed code shows before binding: the shop's name is masked."""
    return answering.scanned(await bindings.scanned_shop(call.user.id, call.path("token")))


async def bind_shop(call: Call) -> answers.ShopLine:
    """Bind the shop of a printed code with its binding code; once more is the same."""
    body = json_body(call.request, Bind)
    tenancy_id = await bindings.bind(call.user.id, body.shop_token, body.binding_code, call.now)
    return answering.shop_line((await tenancies.summaries([tenancy_id]))[0])


async def unbind_shop(call: Call) -> None:
    """Unbind the shop: its objects are gone for this person."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    await bindings.unbind(call.user.id, tenancy.id, call.now)
