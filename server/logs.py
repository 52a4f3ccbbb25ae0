"""What is logged, and in which form; the same for every role and command."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from server.core.errors import UnavailableError
from server.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Structured lines on standard error: JSON in production, readable otherwise."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.is_production
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                tell_absence_briefly,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "httpcore", "sanic.root", "sanic.access", "tortoise", "pymodbus"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def tell_absence_briefly(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A log processor: a peer that is away is told in one line; where that was noticed is noise."""
    given = event.get("exc_info")
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, UnavailableError) or (error and event.get("logger") == "asyncpg.pool"):
        event["exc_info"] = None
        event["why"] = str(error)
    return event
