"""The outermost layer: every request gets a name, every answer the same headers, every error its answer.

Pure ASGI, and nothing of it runs per event of a stream but one `if`.
"""

import re
import time
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.json import encode
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pileus.api.errors import RawHeaders, answer, answer_headers, from_router
from pileus.api.presence import ClientLeft
from pileus.api.services import EdgeServices
from pileus.core.errors import CallerError, InvalidRequest, PileusError
from pileus.core.ids import new_id
from pileus.core.records import AuditEvent, Principal
from pileus.observability.events import get_log
from pileus.security.ring import KeyRefused

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST: Final = re.compile(rb"([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
LANE_HEADER: Final = b"x-pileus-lane"
PRIORITY_HEADER: Final = b"x-pileus-priority"
DEADLINE_HEADER: Final = b"x-pileus-deadline-ms"
ADDRESS_HEADER: Final = b"x-forwarded-for"  # between the processes of one server
# Two of one of these would let two readers of the request disagree.
_SINGULAR: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"x-api-key",
        b"x-request-id",
        LANE_HEADER,
        PRIORITY_HEADER,
        DEADLINE_HEADER,
    }
)
_TRACEPARENT: Final = b"traceparent"
_PREFER: Final = b"prefer"
_REQUEST_ID_HEADER: Final = b"x-request-id"
_CSP: Final = b"content-security-policy"
_HEADERS: Final[RawHeaders] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NOTHING_LOADS: Final = (_CSP, b"default-src 'none'; frame-ancestors 'none'")

log = get_log(__name__)


class Head(Struct):
    """The request's name, the headers that decide something (each at most once), and who sent them."""

    request_id: str
    values: dict[bytes, bytes]
    repeated: bytes | None
    traceparent: str | None = None  # W3C: sent twice, it counts as malformed, and is ignored like any such
    prefer: bytes = b""  # RFC 7240: sent twice, it is one list
    principal: Principal | None = None  # set by the route, once it is known

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
    """One pass over the headers."""
    values: dict[bytes, bytes] = {}
    repeated = None
    traces: list[bytes] = []
    prefer = b""
    for name, value in scope["headers"]:
        if name in _SINGULAR:
            if name in values:
                repeated = name
            values[name] = value
        elif name == _TRACEPARENT:
            traces.append(value)
        elif name == _PREFER:
            prefer = prefer + b"," + value if prefer else value
    wanted = values.get(b"x-request-id")
    request_id = wanted.decode("ascii") if wanted and _REQUEST_ID.fullmatch(wanted) else new_id("req")
    return Head(request_id, values, repeated, traces[0].decode("latin-1") if len(traces) == 1 else None, prefer)


class Edge:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, services: EdgeServices) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        except Exception as error:  # the process's edge: counted, logged, and answered where that is possible
            known = from_router(error, scope["method"], scope["path"]) if isinstance(error, HTTPException) else error
            self._note(known, head, f"{scope['method']} {scope['path']}")
            if not started:
                await _send_error(send_dressed, known)
            elif not isinstance(known, PileusError):
                raise  # in mid-answer the only honest end is a broken connection

    def _note(self, error: Exception, head: Head, target: str) -> None:
        """Each is counted by its reason; a refusal goes to the audit, what is our fault to the log."""
        services = self._services
        if not isinstance(error, PileusError):
            services.refusal_counter.request_refused("internal_error")
        elif not error.settled:
            services.refusal_counter.request_refused(error.code)
        if isinstance(error, CallerError):
            services.refusals.refused(_refusal(error, head, target))
        elif isinstance(error, PileusError):
            log.warning("request.failed", request_id=head.request_id, code=error.code, reason=error.message)
        else:
            log.error("request.crashed", request_id=head.request_id, exc_info=error)


def _refusal(error: CallerError, head: Head, target: str) -> AuditEvent:
    who = head.principal
    known_by = error.key_id if isinstance(error, KeyRefused) else ""
    return AuditEvent(
        at=time.time(),
        actor=who.key_id if who else known_by,
        tenant=who.tenant if who else "",
        action="request.refuse",
        target=target,
        outcome=error.reason if isinstance(error, KeyRefused) else error.code,
        request_id=head.request_id,
    )


def _dress(message: Message, request_id: str) -> None:
    """Add to the start of a response what every response has; one that another process dressed has it."""
    headers: RawHeaders = message["headers"]
    if any(name == _REQUEST_ID_HEADER for name, _ in headers):
        return
    policy = [] if any(name == _CSP for name, _ in headers) else [_NOTHING_LOADS]
    message["headers"] = [*headers, *_HEADERS, *policy, (_REQUEST_ID_HEADER, request_id.encode("ascii"))]


async def _send_error(send: Send, error: Exception) -> None:
    status, body = answer(error)
    content = encode(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        *answer_headers(error, status),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
