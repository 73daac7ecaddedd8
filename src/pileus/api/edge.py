"""The outermost layer: every request gets a name, every answer the same headers, every error its answer."""

import re
from functools import lru_cache

from msgspec import Struct
from msgspec.json import encode
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pileus.api.errors import RawHeaders, answer, answer_headers, from_router
from pileus.api.presence import ClientLeft
from pileus.core.errors import InvalidRequest
from pileus.core.ids import new_id
from pileus.observability.events import get_log

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(rb"[A-Za-z0-9._-]*(\[[0-9A-Fa-f:.]+\])?(:[0-9]{1,5})?")
# Two of one of these would let two readers of the request disagree.
_SINGULAR = frozenset(
    {b"authorization", b"content-encoding", b"content-length", b"content-type", b"host", b"x-api-key", b"x-request-id"}
)
_CSP = b"content-security-policy"
_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NO_CONTENT = (_CSP, b"default-src 'none'; frame-ancestors 'none'")

log = get_log(__name__)


class Head(Struct):
    """The headers that decide something, each at most once, and the request's name."""

    request_id: str
    values: dict[bytes, bytes]
    repeated: bytes | None

    def check(self) -> None:
        """Refuse what two readers could understand differently."""
        if self.repeated is not None:
            raise InvalidRequest(f"the header {self.repeated.decode('ascii')} was sent twice")
        if not _sane_host(self.values.get(b"host", b"")):
            raise InvalidRequest("the Host header is not a host name")


@lru_cache(maxsize=256)
def _sane_host(host: bytes) -> bool:
    return _HOST.fullmatch(host) is not None


def read_head(scope: Scope) -> Head:
    values: dict[bytes, bytes] = {}
    repeated = None
    for name, value in scope["headers"]:
        if name in _SINGULAR:
            if name in values:
                repeated = name
            values[name] = value
    wanted = values.get(b"x-request-id")
    request_id = wanted.decode() if wanted and _REQUEST_ID.fullmatch(wanted) else new_id("req")
    return Head(request_id, values, repeated)


class Edge:
    """Pure ASGI: wraps the application once, adds nothing per event of a stream."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["pileus.head"] = read_head(scope)
        started = False

        async def send_dressed(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                _dress(message, head.request_id)
            await send(message)

        try:
            head.check()
            await self._app(scope, receive, send_dressed)
        except ClientLeft:
            return  # there is nobody to answer
        except Exception as error:  # noqa: BLE001 (the process's edge: logged, and answered where that is possible)
            if isinstance(error, HTTPException):
                error = from_router(error, scope["method"], scope["path"])
            status, body = answer(error)
            if status == 500:
                log.error("request.failed", request_id=head.request_id, exc_info=error)
            if started:
                raise
            await _send_error(send_dressed, error, status, encode(body))


def _dress(message: Message, request_id: str) -> None:
    """Add to the start of a response what every response has."""
    headers: RawHeaders = message["headers"]
    policy = [] if any(name == _CSP for name, _ in headers) else [_NO_CONTENT]
    message["headers"] = [*headers, *_HEADERS, *policy, (b"x-request-id", request_id.encode("ascii"))]


async def _send_error(send: Send, error: Exception, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *answer_headers(error, status),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
