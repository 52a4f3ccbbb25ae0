"""How requests find their routes: a HEAD is its GET without the body."""

from typing import Any

from sanic.exceptions import MethodNotAllowed
from sanic.router import Router


class PlainRouter(Router):
    """Sanic's router, in which whatever can be got also answers HEAD (RFC 9110, 9.3.2)."""

    def _get(self, path: str, method: str, host: str | None) -> Any:
        try:
            return super()._get(path, "GET" if method == "HEAD" else method, host)
        except MethodNotAllowed as error:
            allowed = set(error.headers.get("Allow", "").split(", ")) - {""}
            heads = {"HEAD"} if "GET" in allowed else set()
            raise MethodNotAllowed(str(error), method, sorted(allowed | heads)) from None
