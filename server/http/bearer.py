"""Who is calling, by the Authorization header."""

from sanic import Request

from server.core.errors import UnauthenticatedError

TOKEN_MAX = 128


def bearer_token(request: Request) -> str:
    """The bearer token of an API call; UnauthenticatedError where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_MAX:
        raise UnauthenticatedError
    return str(token)
