"""What the managers' API takes and answers, for its own parsing and for /docs/openapi.json."""

from typing import Annotated, Literal

import msgspec

from server.core.supply.control_state import ControlState
from server.http.openapi import Operation, Parameter

PREFIX = "/api/admin/v1"

NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text has none
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=NO_NUL)]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class LogIn(msgspec.Struct, forbid_unknown_fields=True):
    """POST /sessions."""

    name: Annotated[str, msgspec.Meta(max_length=64, pattern=NO_NUL)]
    password: Annotated[str, msgspec.Meta(max_length=256)]


class SupplyWish(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/supply."""

    state: Literal["connected", "disconnected"]
    reason: Reason


class ManagerToken(msgspec.Struct):
    """A bearer token for all other calls."""

    token: str
    expires_at: Time


class ShopListed(msgspec.Struct):
    """A shop in a list; `tenancy_id` and `balance_fen` are null while nobody lives in it."""

    site: str
    code: str
    name: str
    tenancy_id: int | None
    balance_fen: int | None
    control_state: ControlState | None
    switching: bool
    last_reading_at: Time | None
    supply_state: str | None
    reasons: list[str]


class ShopsListed(msgspec.Struct):
    """A page of shops."""

    items: list[ShopListed]
    next_cursor: str | None


class Hold(msgspec.Struct):
    """A manager's disconnection, until a manager ends it."""

    reason: str
    by: str | None
    at: Time | None


class MeterShown(msgspec.Struct):
    """A meter: what it said, what it should do, what its relay was read back as."""

    code: str
    gateway: str
    profile: str
    has_relay: bool
    last_reading_at: Time | None
    energy_wh: int | None
    finding: str | None
    desired: str | None
    confirmed: str | None
    confirmed_at: Time | None
    hold: Hold | None
    case: str | None


class ShopShown(ShopListed):
    """One shop with its meters; the binding code where a role that may hand it over asks for it."""

    shop_token: str
    meters: list[MeterShown]
    binding_code: str | msgspec.UnsetType = msgspec.UNSET


class MeterSwitching(msgspec.Struct):
    """A relay on its way to the wished state: only `confirmed` is a fact."""

    code: str
    desired: str | None
    confirmed: str | None


class SupplyAsked(msgspec.Struct):
    """The wish is written down; the collector drives the relays."""

    code: str
    desired: str
    meters: list[MeterSwitching]


SITE = Parameter("site", str, "the site's code, where shop codes are ambiguous", needed=False)
_QUERY = Parameter("q", str, "part of a code or a name", needed=False)
_SHOW = Parameter("show", str, "`binding_code`: who looked is in the audit log", needed=False)
_CURSOR = Parameter("cursor", str, "`next_cursor` of the page before", needed=False)


OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/sessions",
        summary="Log in with name and password",
        tag="manager",
        status=201,
        body=LogIn,
        answer=ManagerToken,
        bearer=False,
        problems=(401, 429),
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/sessions", summary="Log out", tag="manager", status=204
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/shops",
        summary="The shops that the manager may see",
        tag="manager",
        answer=ShopsListed,
        query=(_QUERY, SITE, _CURSOR),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path=f"{PREFIX}/shops/{{code}}",
        summary="One shop with its meters",
        tag="manager",
        answer=ShopShown,
        query=(SITE, _SHOW),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/supply",
        summary="Ask for a shop to be disconnected (a hold) or reconnected",
        tag="manager",
        status=202,
        body=SupplyWish,
        answer=SupplyAsked,
        query=(SITE,),
        problems=(403, 409),
    ),
)
