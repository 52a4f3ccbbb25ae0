"""Who is calling, by the Authorization header."""

from sanic import Request

from server.core.errors import UnauthenticatedError

TOKEN_MAX = 128


def bearer_token(request: Request) -> str:
    """The bearer token of an API call; UnauthenticatedError where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthenticatedError
    return checked_token(token)


def checked_token(token: str) -> str:
    """A token that could be ours; UnauthenticatedError for any other, with odd bytes or endless."""
    if not 0 < len(token) <= TOKEN_MAX or not token.isascii():
        raise UnauthenticatedError
    return token
