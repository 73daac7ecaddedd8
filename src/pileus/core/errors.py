"""Everything that Pileus raises on purpose.

    PileusError
    ├── CallerError              the caller's fault: change the request
    │   ├── InvalidRequest       a field is wrong (names it)
    │   │   ├── ContextLengthExceeded
    │   │   └── NotServable      nobody could use what this would make
    │   ├── Unauthenticated
    │   ├── PermissionDenied
    │   ├── NotFound
    │   │   └── ModelNotFound
    │   ├── InUse                something else needs it
    │   ├── TooLarge
    │   ├── QuotaExceeded        with retry_after_s
    │   └── RateLimited          with retry_after_s
    ├── ServiceError             ours: the same request may succeed later
    │   ├── Overloaded           with retry_after_s
    │   ├── Unavailable          no replica, or the store is away; with retry_after_s
    │   ├── DeadlineExceeded
    │   └── EngineFailed         the engine could not finish this request
    │       └── Quarantined      it was at work at more than one replica's death: not to be sent again
    └── OperatorError            the machine or the configuration: one line that says what to do
        ├── ConfigError
        └── ModelRefused         an artefact that cannot be trusted or served

The edge (`api/errors.py`, `cli/main.py`) turns them into responses and exit codes, once. A docstring is the default
message.
"""

from collections.abc import Iterator


class PileusError(Exception):
    """Something went wrong."""

    code = "error"
    settled = False  # it is on the books as a request's ending, and need not be counted again

    def __init__(self, message: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)


class CallerError(PileusError):
    """The request cannot be served as it is."""

    code = "invalid_request"

    def __init__(self, message: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(CallerError):
    """The request is not valid."""

    code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    """The prompt and the answer do not fit into the model's context."""

    code = "context_length_exceeded"


class NotServable(InvalidRequest):
    """What this would make could not be served."""

    code = "not_servable"


class Unauthenticated(CallerError):
    """No valid API key was given: send it as `Authorization: Bearer sk-pileus-...`."""

    code = "invalid_api_key"


class PermissionDenied(CallerError):
    """This key may not do that."""

    code = "permission_denied"


class NotFound(CallerError):
    """There is no such object."""

    code = "not_found"


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class InUse(CallerError):
    """Something else needs it still."""

    code = "in_use"


class TooLarge(CallerError):
    """The request body is too large."""

    code = "request_too_large"


class QuotaExceeded(CallerError):
    """The budget of this key is used up."""

    code = "insufficient_quota"

    def __init__(self, message: str = "", *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(CallerError):
    """Too many of these came from here."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str = "", *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServiceError(PileusError):
    """The service could not finish this request."""

    code = "server_error"


class Overloaded(ServiceError):
    """The queue is full."""

    code = "overloaded"

    def __init__(self, message: str = "", *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Overloaded):
    """Nothing can serve this request at present."""

    code = "unavailable"


class DeadlineExceeded(ServiceError):
    """The request did not finish before its deadline."""

    code = "deadline_exceeded"


class EngineFailed(ServiceError):
    """The engine could not finish this request."""

    code = "engine_failed"


class Quarantined(EngineFailed):
    """Replicas were lost while they were at work on this request, so it is not tried again."""


class OperatorError(PileusError):
    """Pileus cannot run like this."""

    code = "operator_error"


class ConfigError(OperatorError):
    """The configuration is not valid."""

    code = "config_error"


class ModelRefused(OperatorError):
    """This model file cannot be trusted or served."""

    code = "model_refused"


def revive(code: str, message: str, *, param: str | None = None, retry_after_s: float = 1.0) -> PileusError:
    """An error of the tree above, as another process told of it; `ServiceError` for a code that is not known."""
    kind = _BY_CODE.get(code, ServiceError)
    if issubclass(kind, QuotaExceeded | RateLimited | Overloaded):
        return kind(message, retry_after_s=retry_after_s)
    if issubclass(kind, CallerError):
        return kind(message, param=param)
    return kind(message)


def _tree(kind: type[PileusError]) -> Iterator[type[PileusError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


_BY_CODE = {kind.code: kind for kind in _tree(PileusError)}
