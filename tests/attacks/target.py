"""A real server on the fake engine, to be attacked, and what must hold afterwards."""

import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from acceptance.process import Server

CHAT = "/v1/chat/completions"
MIB = 1024 * 1024
_SETTLED_WITHIN_S = 5.0


@dataclass(frozen=True)
class Answer:
    """What came back over a bare socket; status 0 where the connection ended without an answer."""

    status: int
    text: str

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text.partition("\r\n\r\n")[2])["error"]
        return found


@dataclass(frozen=True)
class Target:
    """The attacked server, and the honest user beside the attacker."""

    server: Server
    user: str  # an API key
    user_id: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.server.base_url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def http(self, key: str | None = None) -> httpx.Client:
        """A well-behaved client."""
        headers = {"authorization": f"Bearer {key or self.user}"}
        return httpx.Client(base_url=self.server.base_url, headers=headers, timeout=30, trust_env=False)

    def ask(self, **wishes: Any) -> httpx.Response:
        """An honest chat, with some wishes that may be less so."""
        body = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4} | wishes
        with self.http() as client:
            return client.post(CHAT, json=body)

    def post(self, body: bytes) -> httpx.Response:
        """A chat request with this very body."""
        with self.http() as client:
            return client.post(CHAT, content=body, headers={"content-type": "application/json"})

    def head(self, *lines: str, request: str = f"POST {CHAT} HTTP/1.1") -> bytes:
        """A request's head, with this host and the honest user's key."""
        own = ("host: pileus", f"authorization: Bearer {self.user}", "content-type: application/json")
        return "\r\n".join((request, *own, *lines, "", "")).encode("latin-1")

    @contextmanager
    def connection(self, timeout_s: float = 30.0) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=timeout_s) as sock:
            yield sock

    def raw(self, *parts: bytes | Iterable[bytes]) -> Answer:
        """Send these bytes, as far as the server takes them, and read what it says."""
        with self.connection() as sock:
            try:
                for part in parts:
                    for piece in [part] if isinstance(part, bytes) else part:
                        sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it stopped listening; what it said is still to be read
            return read_answer(sock)

    def rss_bytes(self) -> int:
        """Memory of the server process."""
        pages = int(Path(f"/proc/{self.server.process.pid}/statm").read_text().split()[1])
        return pages * 4096

    def status(self) -> list[dict[str, Any]]:
        """Every replica, as the server shows it."""
        with self.http(self.server.admin_key) as admin:
            deployments = admin.get("/admin/v1/status").json()["deployments"]
        return [replica | {"queue": each["waiting"]} for each in deployments for replica in each["replicas"]]

    def holds_its_invariants(self) -> bool:
        """I2 and I8: nothing is held for anyone, and an honest request succeeds."""
        if self.ask().status_code != 200:
            return False
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while any(
            replica["running"] or replica["waiting"] or replica["queue"] or replica["kv_blocks_used"]
            for replica in self.status()
        ):
            if time.monotonic() > deadline:
                return False
        return True


def read_answer(sock: socket.socket) -> Answer:
    """One response, up to its end or the connection's."""
    found = b""
    try:
        while not _complete(found):
            part = sock.recv(65536)
            if not part:
                break
            found += part
    except ConnectionResetError:
        pass
    status = int(found.split(b" ", 2)[1]) if found.startswith(b"HTTP/1.1 ") else 0
    return Answer(status, found.decode("utf-8", "replace"))


def _complete(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return body.endswith(b"0\r\n\r\n")
