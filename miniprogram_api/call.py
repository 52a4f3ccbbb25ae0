"""One call of a tenant: the request, the time, and who it is."""

from dataclasses import dataclass
from datetime import datetime

from sanic import Request

from server.core.errors import UnauthenticatedError
from server.http.context import WebContext
from server.services.sessions import User


@dataclass(frozen=True, slots=True)
class Call:
    """What every handler is given; `somebody` is None only on a route without a login."""

    request: Request
    context: WebContext
    now: datetime
    somebody: User | None

    @property
    def user(self) -> User:
        """Whose session this is."""
        if self.somebody is None:
            raise UnauthenticatedError
        return self.somebody

    def path(self, name: str) -> str:
        """A part of the path, decoded."""
        return str(self.request.match_info[name])
