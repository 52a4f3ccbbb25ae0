"""GET /docs/openapi.json: what every door of this app says about itself."""

from typing import Any

from sanic import Sanic

from server.http.openapi import document, operations_of

TITLE = "MallWatt"


def describe(app: Sanic[Any, Any], version: str) -> dict[str, Any]:
    """The document of all operations that the app's blueprints have attached."""
    return document(TITLE, version, operations_of(app))
