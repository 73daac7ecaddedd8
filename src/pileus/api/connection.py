"""A client's connection, with the bounds that uvicorn leaves open.

uvicorn waits for ever for the end of a request's head, keeps any number of header bytes, goes on reading a body that
was refused, and waits for ever for a reader that does not read. Each of these is a way to hold memory or a connection
with one byte a second. The bounds here cost nothing per token, and one comparison per chunk that arrives.
"""

import asyncio
import resource
from typing import Any, Final

from msgspec.json import encode
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pileus.api.errors import ErrorBody, ErrorDetail, retry_headers
from pileus.core.ids import new_id

HEAD_DEADLINE_S: Final = 10.0  # from the first byte (or the connection) to the empty line
HEAD_MAX_BYTES: Final = 64 * 1024
HEAD_MAX_FIELDS: Final = 100
LINGER_S: Final = 5.0  # how long a client may go on sending after it was refused
WRITE_DEADLINE_S: Final = 30.0  # how long a full send buffer may stay full
SPARE_FILES: Final = 32  # file descriptors that connections leave to the process itself
_FAREWELL_S: Final = 0.5  # for a client that is turned away to read why


class HeadTooLarge(Exception):
    """Stops the parser."""


class BoundedConnection(HttpToolsProtocol):
    """One HTTP/1.1 connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None  # of the head, or of a refused body
        self._write_deadline: asyncio.TimerHandle | None = None
        self._head_is_open = True
        self._head_bytes = 0
        self._refused = False
        self._body_is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if _is_scarce(transport):
            self._refuse(503, "the server has as many connections as it can have: try again soon")
            self._end_by(_FAREWELL_S)
        else:
            self._end_by(HEAD_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_by(None)
        self.resume_writing()
        super().connection_lost(exc)

    # --- the head ---

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_open = self._head_is_open
        super().data_received(data)
        if not self._head_is_open or self._refused:
            return
        self._head_bytes += len(data) if was_open else 0
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(431, "the request's headers are too large")
        elif self._deadline is None:
            self._end_by(HEAD_DEADLINE_S)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._head_is_open:
            self._head_bytes = 0
        self._head_is_open = self._body_is_open = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEAD_MAX_FIELDS:
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._end_by(None)
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        too_large = self._head_is_open and self.headers is not None and len(self.headers) >= HEAD_MAX_FIELDS
        if too_large:
            self._refuse(431, f"the request has more than {HEAD_MAX_FIELDS} headers")
        else:
            self._refuse(400, "this is not a valid HTTP/1.1 request")

    # --- what follows a refusal ---

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_is_open = False
        self._end_by(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self._body_is_open and not self._head_is_open:
            self._end_by(LINGER_S)

    def _refuse(self, status: int, message: str) -> None:
        """Answer by itself and read on without looking, so that the answer is not lost in a reset connection."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # another answer is on its way; this one has no place
            return
        kind, code = ("server_error", "unavailable") if status == 503 else ("invalid_request_error", "invalid_http")
        body = encode(ErrorBody(ErrorDetail(message, kind, None, code)))
        again = b"".join(b"%s: %s\r\n" % header for header in retry_headers(_RETRY_S)) if status == 503 else b""
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n" % (status, _REASONS[status])
            + again
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
            + b"x-request-id: %s\r\n\r\n" % new_id("req").encode("ascii")
            + body
        )
        self.transport.write_eof()
        self._end_by(LINGER_S)

    # --- deadlines ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.call_later(WRITE_DEADLINE_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    def _end_by(self, delay_s: float | None) -> None:
        """Set the deadline of what is being read; `None` lifts it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if delay_s is not None:
            self._deadline = self.loop.call_later(delay_s, self.transport.abort)


def _is_scarce(transport: asyncio.Transport) -> bool:
    """Whether the process has few file descriptors left: a new one has the lowest free number."""
    connection = transport.get_extra_info("socket")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return bool(limit != resource.RLIM_INFINITY and connection.fileno() >= limit - SPARE_FILES)


_RETRY_S: Final = 1.0
_REASONS: Final = {400: b"Bad Request", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}
