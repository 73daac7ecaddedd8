"""Speaks to a running Pileus over HTTP, and turns what can go wrong there into one line that says what to do."""

import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from json import loads
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import urlsplit

from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "PILEUS_API_KEY"

_NO_KEY = (
    f"no API key: export {KEY_VARIABLE}=sk-pileus-... (`pileus up` shows the first one; "
    "`pileus keys create NAME` makes another while the server is stopped)"
)
_CONNECT_S = 5.0


class Client:
    """One server, spoken to with the key of the environment. Use it as a context manager."""

    def __init__(self, url: str, key: str | None = None, *, lasts: bool = True) -> None:
        """`key` stands in for the environment's; `lasts` says whether the server outlives the command."""
        import httpx

        key = (key or os.environ.get(KEY_VARIABLE, "")).strip()
        if not key:
            raise OperatorError(_NO_KEY)
        if not (key.isascii() and key.isprintable()):
            raise OperatorError(f"{KEY_VARIABLE} holds characters that no key has: copy the key again")
        if not re.fullmatch(r"https?://[^\s/]+\S*", url):
            raise OperatorError(f"{url!r} is no server's address: it looks like {DEFAULT_URL}")
        self.url = url.rstrip("/")
        self.key = key
        self.lasts = lasts
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            trust_env=not _is_loopback(self.url),  # a proxy for the internet cannot reach this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        return self._send("GET", path).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("POST", path, body).json()

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("PUT", path, body).json()

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("PATCH", path, body).json()

    def delete(self, path: str) -> Any:
        return self._send("DELETE", path).json()

    def find(self, path: str) -> dict[str, Any] | None:
        """As `get`; None where there is nothing."""
        response = self._send("GET", path, missing_ok=True)
        return None if response.status_code == 404 else response.json()

    def upload(self, file: Path, filename: str, purpose: str, progress: Callable[[int, int], None]) -> Any:
        """Store a file. `progress` hears of the bytes that were sent, and of all."""
        import httpx

        total = file.stat().st_size
        with file.open("rb") as content:
            parts = {"file": (filename, _Watched(content, total, progress), "application/jsonl")}
            try:
                response = self._http.post("/v1/files", data={"purpose": purpose}, files=parts)  # type: ignore[arg-type]
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
        if response.is_error:
            raise self._refusal(response)
        return response.json()

    def save(self, path: str, target: Path) -> None:
        """Save an answer's body, whole or not at all."""
        draft = target.with_name(f"{target.name}.part")
        with self.download(path) as (_, parts), draft.open("wb") as file:
            for part in parts:
                file.write(part)
        draft.rename(target)

    def stream(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The JSON events of a server-sent stream. Closing it closes the connection, which ends the request."""
        import httpx

        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise self._refusal(response)
                for line in response.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield _event(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    @contextmanager
    def download(self, path: str) -> "Iterator[tuple[Mapping[str, str], Iterator[bytes]]]":
        """A body as it comes, with the headers before it."""
        import httpx

        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise self._refusal(response)
                yield response.headers, response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, missing_ok: bool = False
    ) -> "httpx.Response":
        import httpx

        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_error and not (missing_ok and response.status_code == 404):
            raise self._refusal(response)
        return response

    def _unreachable(self, error: "httpx.HTTPError") -> OperatorError:
        import httpx

        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return OperatorError(f"no server at {self.url}: start one with `pileus up`, or name another in PILEUS_URL")
        return OperatorError(f"the connection to {self.url} broke: {error or type(error).__name__}")

    def _refusal(self, response: "httpx.Response") -> OperatorError:
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return OperatorError(f"{self.url} does not answer like a Pileus server ({response.status_code})")
        if response.status_code == 401:
            return OperatorError(f"{message} (the key comes from {KEY_VARIABLE})")
        return OperatorError(message)


class _Watched:
    """A file that tells how much of it was read. httpx reads it in pieces."""

    def __init__(self, content: BinaryIO, total: int, progress: Callable[[int, int], None]) -> None:
        self._content = content
        self._total = total
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        part = self._content.read(size)
        self._progress(self._content.tell(), self._total)
        return part

    def fileno(self) -> int:
        """Tells httpx the length."""
        return self._content.fileno()

    def __iter__(self) -> Iterator[bytes]:
        while part := self.read(1 << 16):
            yield part


def _event(data: str) -> dict[str, Any]:
    event: dict[str, Any] = loads(data)
    if "error" in event:
        raise OperatorError(str(event["error"].get("message", "the answer broke off")))
    return event


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
