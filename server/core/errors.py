"""Typed errors: whose fault they are, and whether trying again can help."""

from enum import StrEnum


class Fault(StrEnum):
    """Who has to change something before the same call can succeed."""

    CALLER = "caller"
    PEER = "peer"
    OURS = "ours"


class MallwattError(Exception):
    """Base of every error that a door may turn into an answer; `code` is stable, `detail` plain."""

    code: str = "internal"
    fault: Fault = Fault.OURS
    transient: bool = False

    def __init__(self, detail: str = "", *, code: str | None = None) -> None:
        super().__init__(detail or code or self.code)
        if code is not None:
            self.code = code
        self.detail = detail


class InvalidInputError(MallwattError):
    """The input breaks a rule; the same input never succeeds."""

    code = "invalid_input"
    fault = Fault.CALLER


class NotFoundError(MallwattError):
    """No such object, or not the caller's: the two look alike."""

    code = "not_found"
    fault = Fault.CALLER


class UnauthenticatedError(MallwattError):
    """Nobody, or somebody whose session has ended."""

    code = "unauthenticated"
    fault = Fault.CALLER


class ForbiddenError(MallwattError):
    """The caller's role does not allow this."""

    code = "forbidden"
    fault = Fault.CALLER


class ConflictError(MallwattError):
    """The state of the object forbids this now."""

    code = "conflict"
    fault = Fault.CALLER


class LimitedError(MallwattError):
    """Too many tries; `retry_after_s` says when another may be made."""

    code = "too_many_requests"
    fault = Fault.CALLER
    transient = True

    def __init__(self, detail: str = "", *, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class UnavailableError(MallwattError):
    """Something outside did not answer; trying again later can help."""

    code = "unavailable"
    fault = Fault.PEER
    transient = True
