"""Errors become answers here, once: the status, OpenAI's shape, and when to come back.

Only what the caller may know is told: an error that is not a `PileusError` has one fixed sentence.
"""

from math import ceil

from msgspec import Struct
from msgspec.json import encode
from starlette.exceptions import HTTPException

from pileus.core.errors import (
    CallerError,
    DeadlineExceeded,
    InUse,
    NotFound,
    Overloaded,
    PermissionDenied,
    PileusError,
    Quarantined,
    QuotaExceeded,
    RateLimited,
    ServiceError,
    TooLarge,
    Unauthenticated,
)
from pileus.jobs.machine import NotPossible

RawHeaders = list[tuple[bytes, bytes]]


class UnsupportedMediaType(CallerError):
    """The body must be JSON: send `content-type: application/json`."""

    code = "unsupported_media_type"


class MethodNotAllowed(CallerError):
    """This path does not have that method."""

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class RangeNotSatisfiable(CallerError):
    """The file has no such bytes."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class BodyTooSlow(CallerError):
    """The request body did not arrive in time."""

    code = "request_timeout"


# The first class that the error is an instance of decides.
_ANSWERS: tuple[tuple[type[PileusError], int, str], ...] = (
    (Unauthenticated, 401, "authentication_error"),
    (PermissionDenied, 403, "permission_error"),
    (NotFound, 404, "invalid_request_error"),
    (MethodNotAllowed, 405, "invalid_request_error"),
    (BodyTooSlow, 408, "invalid_request_error"),
    (InUse, 409, "invalid_request_error"),
    (NotPossible, 409, "invalid_request_error"),
    (TooLarge, 413, "invalid_request_error"),
    (UnsupportedMediaType, 415, "invalid_request_error"),
    (RangeNotSatisfiable, 416, "invalid_request_error"),
    (QuotaExceeded, 429, "insufficient_quota"),
    (RateLimited, 429, "rate_limit_error"),
    (CallerError, 400, "invalid_request_error"),
    (Overloaded, 503, "server_error"),
    (DeadlineExceeded, 504, "server_error"),
    (ServiceError, 500, "server_error"),
)
_INTERNAL = "The server made a mistake; its log has the details under this request's x-request-id."


class ErrorDetail(Struct, frozen=True):
    """What went wrong: a sentence, its kind, the field at fault, and a code for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct, frozen=True):
    """Every error of this API has this form."""

    error: ErrorDetail


def answer(error: Exception) -> tuple[int, ErrorBody]:
    """The status and the body for an error."""
    for kind, status, label in _ANSWERS:
        if isinstance(error, kind):
            param = error.param if isinstance(error, CallerError) else None
            return status, ErrorBody(ErrorDetail(error.message, label, param, error.code))
    return 500, ErrorBody(ErrorDetail(_INTERNAL, "server_error", None, "internal_error"))


def answer_headers(error: Exception, status: int) -> RawHeaders:
    """What beside the body tells the caller how to go on."""
    headers: RawHeaders = []
    if isinstance(error, Overloaded | QuotaExceeded | RateLimited):
        headers += retry_headers(error.retry_after_s)
    if isinstance(error, Quarantined):
        headers.append((b"x-should-retry", b"false"))  # the official clients would send it twice more
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode("ascii")))
    if isinstance(error, RangeNotSatisfiable):
        headers.append((b"content-range", b"bytes */%d" % error.size))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def retry_headers(retry_after_s: float) -> RawHeaders:
    """When to come back, rounded up: in seconds for everybody, in milliseconds for clients that know them."""
    milliseconds = max(1, ceil(retry_after_s * 1000))
    return [(b"retry-after", b"%d" % -(-milliseconds // 1000)), (b"retry-after-ms", b"%d" % milliseconds)]


def event(error: Exception) -> bytes:
    """An error in mid-stream, as a server-sent event. No `[DONE]` follows it."""
    return b"data: " + encode(answer(error)[1]) + b"\n\n"


def from_router(error: HTTPException, method: str, path: str) -> PileusError:
    """What the router says of paths and methods that it does not have."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{path} does not have {method}; it has {allowed}", allowed)
    return NotFound(f"there is no {method} {path}")
