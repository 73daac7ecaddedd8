"""Files that browsers load: a fixed set, known at start-up by name, so that no path leads anywhere else."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct
from starlette.responses import Response

from pileus.api.errors import RawHeaders
from pileus.api.route import Call
from pileus.core.errors import NotFound

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class _File(Struct, frozen=True):
    content: bytes
    headers: RawHeaders
    etag: str


class StaticFiles:
    """A handler for the files under a folder; each is read when it is first asked for and then kept."""

    def __init__(self, folder: Path, names: Iterable[str] | None = None, *, policy: str) -> None:
        found = names if names is not None else _names_below(folder)
        self._paths = {name: folder / name for name in found}
        self._policy = policy.encode("ascii")
        self._read: dict[str, _File] = {}

    def answer(self, call: Call, name: str) -> Response:
        """The file; nothing but a 304 where the browser has it already."""
        file = self._read.get(name) or self._load(name)
        if file.etag in call.headers.get("if-none-match", ""):
            response = Response(status_code=304)
        else:
            response = Response(file.content)
        response.raw_headers += file.headers
        return response

    def _load(self, name: str) -> _File:
        path = self._paths.get(name)
        if path is None:
            raise NotFound(f"there is no file {name!r}")
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = [
            (b"content-type", _TYPES[path.suffix].encode("ascii")),
            (
                b"cache-control",
                b"no-cache",
            ),  # kept by the browser, asked about each time: files have no version in their name
            (b"etag", etag.encode("ascii")),
            (b"content-security-policy", self._policy),
        ]
        file = self._read[name] = _File(content, headers, etag)
        return file


def _names_below(folder: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in _TYPES and path.is_file()
    ]
