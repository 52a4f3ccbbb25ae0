"""What a tenant pays, and where it went."""

import re

from miniprogram_api import answering, answers
from miniprogram_api.access import tenancy_of, top_up_of
from miniprogram_api.bodies import ChangeMethod, OrderTopUp
from miniprogram_api.call import Call
from payments.contract import Method
from server.core.errors import InvalidInputError
from server.http.bodies import client_address, json_body, text_argument
from server.http.locale import locale_of
from server.services import guesses, payment_attempts, top_up_closing, top_ups, transactions
from server.services.payment_attempts import Payer
from server.services.sessions import token_digest
from server.services.top_ups import TopUpOrder

ORDERS_SCOPE, ORDERS_PER_USER, ORDERS_WINDOW_S = "order_user", 600, 600
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


async def list_transactions(call: Call) -> answers.Transactions:
    """A wallet's journal, newest first."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    wallet = text_argument(call.request, "wallet") or "electricity"
    cursor = text_argument(call.request, "cursor")
    page = await transactions.moves(tenancy.id, wallet, cursor)
    locale = locale_of(call.request)
    items = [answering.transaction(move, wallet, tenancy.zone, locale) for move in page.items]
    return answers.Transactions(items, page.next_cursor)


async def order_top_up(call: Call) -> answers.TopUpOrdered:
    """Order a top-up, once an Idempotency-Key; `payment` is what the payer's app needs."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    key = _idempotency_key(call)
    body = json_body(call.request, OrderTopUp)
    await _count_order(call)
    payer = _payer(call, body.method)
    wish = TopUpOrder(
        tenancy_id=tenancy.id,
        amount_fen=body.amount_fen,
        method=body.method,
        wallet=body.wallet,
        idempotency_key=key,
        user_id=call.user.id,
        payer_id=payer.payer_id,
        client_ip=payer.client_ip,
        public_url=payer.public_url,
    )
    view = await top_ups.order(wish, call.context.platforms, call.now)
    return answering.top_up_ordered(view, tenancy.zone)


async def change_method(call: Call) -> answers.TopUpOrdered:
    """Pay a pending top-up by another method, or by a fresh link of the same."""
    own = await top_up_of(call.user, call.path("top_up_no"))
    body = json_body(call.request, ChangeMethod)
    await _count_order(call)
    view = await payment_attempts.change_method(
        *(own.view.top_up_no, body.method, _payer(call, body.method)),
        *(call.context.platforms, call.now),
    )
    return answering.top_up_ordered(view, own.tenancy.zone)


async def close_top_up(call: Call) -> answers.TopUp:
    """Give up a pending top-up, which makes room for another; one that is over stays as it is."""
    own = await top_up_of(call.user, call.path("top_up_no"))
    await top_up_closing.give_up(own.view.top_up_no, call.now)
    return await get_top_up(call)


async def get_top_up(call: Call) -> answers.TopUp:
    """What became of a top-up, with the times of paid, credited, commanded, confirmed."""
    own = await top_up_of(call.user, call.path("top_up_no"))
    return answering.top_up(own.view, own.tenancy.zone)


async def _count_order(call: Call) -> None:
    subject = str(call.user.id)
    await guesses.check(ORDERS_SCOPE, subject, call.now)
    await guesses.record_failure(
        ORDERS_SCOPE, subject, call.now, limit=ORDERS_PER_USER, window_s=ORDERS_WINDOW_S
    )


def _payer(call: Call, method: Method) -> Payer:
    return Payer(
        public_url=call.context.settings.public_url,
        client_ip=client_address(call.request),
        payer_id=call.user.openid if method is Method.WECHAT_JSAPI else None,
        user_id=call.user.id,
    )


def _idempotency_key(call: Call) -> str:
    """The header, made the caller's own: two people of one shop never meet on a key."""
    sent = call.request.headers.getall("idempotency-key", [])
    if len(sent) != 1 or not _KEY.fullmatch(sent[0]):
        raise InvalidInputError(
            "one Idempotency-Key of 1 to 255 printable characters", code="idempotency_key_needed"
        )
    return f"user-{call.user.id}-{token_digest(sent[0])}"
