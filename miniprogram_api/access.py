"""The only way to a tenant's object: somebody else's answers exactly as one that is not there."""

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from server.core.errors import NotFoundError
from server.services import bindings
from server.services.sessions import User
from server.services.top_up_views import TopUpView, find_top_up

_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NUMBER = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnTenancy:
    """A tenancy that the caller is bound to now, and the clock of its site."""

    id: int
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class OwnTopUp:
    """A top-up of a tenancy that the caller is bound to now."""

    view: TopUpView
    tenancy: OwnTenancy


async def tenancy_of(user: User, id_text: str) -> OwnTenancy:
    """The user's tenancy of this id; raises NotFoundError for all others, whatever they are."""
    found = None
    if _ID.fullmatch(id_text):
        found = await bindings.bound_timezone(user.id, int(id_text))
    if found is None:
        raise NotFoundError("no such shop")
    return OwnTenancy(int(id_text), ZoneInfo(found))


async def top_up_of(user: User, no: str) -> OwnTopUp:
    """The top-up of this number at one of the user's tenancies; raises NotFoundError."""
    try:
        view = await find_top_up(no if _NUMBER.fullmatch(no) else "")
        return OwnTopUp(view, await tenancy_of(user, str(view.tenancy_id)))
    except NotFoundError as error:
        raise NotFoundError("no such top-up") from error
