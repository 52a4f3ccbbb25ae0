"""What anyone with the printed QR code may do: see the masked name, order a top-up, watch it."""

from dataclasses import dataclass
from datetime import datetime

from payments.contract import Method
from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.models import database
from server.services import (
    admin_views,
    bindings,
    guesses,
    payment_attempts,
    top_up_views,
    top_ups,
)
from server.services.payment_attempts import Payer, PlatformFailedError
from server.services.platforms import PlatformDirectory
from server.services.top_up_views import TopUpView

AMOUNTS_FEN = (5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
AMOUNT_MIN_FEN, AMOUNT_MAX_FEN = 1, 5_000_000
ORDERS_PER_ADDRESS, ORDERS_PER_SHOP, ORDERS_WINDOW_S = 20, 40, 600
ADDRESS_SCOPE, SHOP_SCOPE = "anonymous_address", "anonymous_shop"
NONCE_MAX = 64


@dataclass(frozen=True, slots=True)
class PublicShop:
    """A shop as strangers may see it; `tenancy_id` None: nobody lives there now."""

    shop_id: int
    site_id: int
    site_name: str
    code: str
    masked_name: str
    tenancy_id: int | None


@dataclass(frozen=True, slots=True)
class AnonymousOrder:
    """What a page without a login asks for. `nonce` came with the page: a repeat is the same."""

    shop_id: int
    tenancy_id: int | None
    amount_fen: int
    method: Method
    nonce: str
    address: str  # what the limit counts by
    client_ip: str
    public_url: str
    return_path: str | None  # where the platform sends the payer back to; the key is appended
    beside: tuple[Method, ...] = ()  # a second code, shown together with the first


@dataclass(frozen=True, slots=True)
class AnonymousChange:
    """How an order of this page is to be paid instead."""

    shop_id: int
    methods: tuple[Method, ...]
    address: str
    payer: Payer


@dataclass(frozen=True, slots=True)
class AnonymousTopUp:
    """A top-up that nobody's login ordered, and where it belongs."""

    view: TopUpView
    shop_id: int
    shop_code: str
    shop_name: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Tick:
    """One of the four things a payer waits for; `state` is done, waiting, stuck or unneeded."""

    name: str
    state: str
    at: datetime | None = None


async def shop_of_token(token: str) -> PublicShop:
    """The shop of a printed code; NotFoundError for any other."""
    found = await database.row(
        database.pool(),
        "SELECT s.id AS shop_id, s.site_id, st.name AS site_name, s.code, s.name,"
        " t.id AS tenancy_id FROM shop s JOIN site st ON st.id = s.site_id"
        " LEFT JOIN tenancy t ON t.shop_id = s.id AND t.closed_at IS NULL WHERE s.token = $1",
        token,
    )
    if found is None:
        raise NotFoundError("shop token")
    return PublicShop(masked_name=bindings.masked(found.pop("name")), **found)


async def order(wish: AnonymousOrder, platforms: PlatformDirectory, now: datetime) -> TopUpView:
    """Order a top-up without a login; LimitedError past the limits by address and by shop."""
    if wish.tenancy_id is None:
        raise ConflictError("nobody lives in this shop now")
    if not AMOUNT_MIN_FEN <= wish.amount_fen <= AMOUNT_MAX_FEN:
        raise InvalidInputError(f"between {AMOUNT_MIN_FEN} and {AMOUNT_MAX_FEN} fen")
    if not 8 <= len(wish.nonce) <= NONCE_MAX or not (wish.nonce.isascii() and wish.nonce.isalnum()):
        raise InvalidInputError("this form did not come from us")
    # another amount or method from the same page is another order, not a contradiction
    key = f"page-{wish.nonce}-{wish.amount_fen}-{wish.method}"
    await _count(ADDRESS_SCOPE, wish.address, ORDERS_PER_ADDRESS, now)
    await _count(SHOP_SCOPE, str(wish.shop_id), ORDERS_PER_SHOP, now)
    return await top_ups.order(
        top_ups.TopUpOrder(
            tenancy_id=wish.tenancy_id,
            amount_fen=wish.amount_fen,
            method=wish.method,
            wallet="electricity",
            idempotency_key=key,
            user_id=None,
            payer_id=None,
            client_ip=wish.client_ip,
            public_url=wish.public_url,
            return_url=wish.return_path and f"{wish.public_url}{wish.return_path}/{key}",
            beside=wish.beside,
        ),
        platforms,
        now,
    )


async def change_method(
    no: str, wish: AnonymousChange, platforms: PlatformDirectory, now: datetime
) -> None:
    """Let an order be paid by other methods, or by a fresh link; limited as orders are."""
    await find_top_up(wish.shop_id, no)
    await _count(ADDRESS_SCOPE, wish.address, ORDERS_PER_ADDRESS, now)
    await _count(SHOP_SCOPE, str(wish.shop_id), ORDERS_PER_SHOP, now)
    given, failed = 0, None
    for method in wish.methods:
        try:
            await payment_attempts.change_method(no, method, wish.payer, platforms, now)
        except PlatformFailedError as error:
            failed = error
        else:
            given += 1
    if failed is not None and not given:
        raise failed


async def find_top_up(shop_id: int, no: str) -> AnonymousTopUp:
    """An anonymous top-up of this shop; NotFoundError for persons' and other shops' alike."""
    return await _find(no, shop_id, None)


async def no_of_key(shop_id: int, key: str) -> str:
    """The number of the anonymous order that was made with this key."""
    found = await database.row(
        database.pool(),
        "SELECT u.no FROM top_up u JOIN tenancy t ON t.id = u.tenancy_id"
        " WHERE u.idempotency_key = $1 AND u.user_id IS NULL AND t.shop_id = $2",
        *(key, shop_id),
    )
    if found is None:
        raise NotFoundError("order")
    return str(found["no"])


async def find_site_top_up(site_id: int, no: str) -> AnonymousTopUp:
    """An anonymous top-up of this mall, for a kiosk."""
    return await _find(no, None, site_id)


async def supply_of(shop_id: int) -> tuple[str, tuple[str, ...]]:
    """The shop's supply in one word (ShopLine.glance) and its reasons' codes."""
    line = await admin_views.shop_of_id(shop_id)
    return line.glance, ("held",) if line.held else line.reasons


def ticks(view: TopUpView, glance: str) -> tuple[Tick, ...]:
    """The four ticks of a payment, in order.

    A supply that was never off needs no switching; one that stays off after the credit is stuck,
    and the page says why.
    """
    return (
        _tick("paid", view.paid_at),
        _tick("credited", view.credited_at),
        _supply_tick("commanded", view.commanded_at, view, glance),
        _supply_tick("confirmed", view.confirmed_at, view, glance),
    )


def is_settled(view: TopUpView, glance: str) -> bool:
    """Whether nothing more will happen to this page by itself."""
    if view.status in {"closed", "refunded"}:
        return True
    return all(tick.state in {"done", "unneeded"} for tick in ticks(view, glance))


def _tick(name: str, at: datetime | None) -> Tick:
    return Tick(name, "waiting" if at is None else "done", at)


def _supply_tick(name: str, at: datetime | None, view: TopUpView, glance: str) -> Tick:
    if at is not None:
        return Tick(name, "done", at)
    if view.credited_at is None or view.commanded_at is not None:
        return Tick(name, "waiting")
    if glance in {"on", "low"}:
        return Tick(name, "unneeded")
    return Tick(name, "stuck" if glance in {"off", "ready"} else "waiting")


async def _count(scope: str, subject: str, limit: int, now: datetime) -> None:
    """Count an order as the guess counters count wrong guesses; the limit is the same kind."""
    async with database.transaction() as connection:
        await guesses.lock_within(connection, scope, subject)
        await guesses.check_within(connection, scope, subject, now)
        await guesses.record_failure_within(
            connection, scope, subject, now, limit=limit, window_s=ORDERS_WINDOW_S
        )


async def _find(no: str, shop_id: int | None, site_id: int | None) -> AnonymousTopUp:
    found = await database.row(
        database.pool(),
        "SELECT t.shop_id, s.code AS shop_code, s.name AS shop_name, st.timezone"
        " FROM top_up u JOIN tenancy t ON t.id = u.tenancy_id JOIN shop s ON s.id = t.shop_id"
        " JOIN site st ON st.id = t.site_id"
        " WHERE u.no = $1 AND u.user_id IS NULL AND (t.shop_id = $2 OR t.site_id = $3)",
        *(no, shop_id, site_id),
    )
    if found is None:
        raise NotFoundError("top-up")
    return AnonymousTopUp(view=await top_up_views.find_top_up(no), **found)
