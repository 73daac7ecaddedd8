"""Sends a file's content: as a download under its name, whole or in part."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Final
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from pileus.api.errors import RangeNotSatisfiable, RawHeaders
from pileus.api.presence import Presence
from pileus.store.file_table import StoredFile

_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")

Read = Callable[[StoredFile, int, int], AsyncIterator[bytes]]


class Download:
    """An ASGI response. A reader that is slow holds up the reading of the content; one that leaves ends it."""

    def __init__(self, file: StoredFile, read: Read, wanted: str | None, presence: Presence) -> None:
        """`wanted` is the request's Range header. Raises `RangeNotSatisfiable`."""
        self._file = file
        self._read = read
        self._presence = presence
        self._part = _part(wanted, file.bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, end = self._part or (0, self._file.bytes)
        status = 200 if self._part is None else 206
        async with self._presence:
            pieces = self._read(self._file, start, end)
            piece = await anext(pieces, b"")  # what goes wrong here still has its proper answer
            await send({"type": "http.response.start", "status": status, "headers": self._headers()})
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(pieces, b"")
            await send({"type": "http.response.body", "body": b""})

    def _headers(self) -> RawHeaders:
        start, end = self._part or (0, self._file.bytes)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % (end - start)),
            (b"content-disposition", _disposition(self._file.filename)),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"private, no-store"),
        ]
        if self._part is not None:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, self._file.bytes)))
        return headers


def _part(wanted: str | None, size: int) -> tuple[int, int] | None:
    """From where to before where; None is all of it, also for what is no single range of bytes (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(wanted or "")
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(f"the file has {size} bytes", size)
    return start, end


def _disposition(filename: str) -> bytes:
    """RFC 6266: plain ASCII for old readers, UTF-8 for all others."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}".encode("ascii")
