"""A scripted server on a free port, and the command run as a person would run it, in this process."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest

from pileus.cli.main import main


@dataclass
class Stub:
    """Answers each (method, path) as told, and keeps what it was sent."""

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    turns: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: object, status: int = 200) -> None:
        self.answers[method, path] = (status, json.dumps(body))

    def answer_in_turn(self, method: str, path: str, *bodies: object) -> None:
        """One after the other; the last of them stays."""
        self.turns[method, path] = [json.dumps(body) for body in bodies[:-1]]
        self.answer(method, path, bodies[-1])

    def refuse(self, method: str, path: str, status: int, message: str) -> None:
        self.answer(method, path, {"error": {"message": message, "type": "x", "param": None, "code": None}}, status)

    def stream(self, path: str, *pieces: str, tokens: int = 0) -> None:
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        chunks.append({"choices": [], "usage": {"completion_tokens": tokens}})
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self.answers["POST", path] = (200, "".join(events) + "data: [DONE]\n\n")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.keys.append(self.headers["authorization"])
            stub.asked.append((self.command, self.path))
            if length := int(self.headers["content-length"] or 0):
                stub.bodies.append(json.loads(self.rfile.read(length)))
            status, text = stub.answers.get((self.command, self.path), (404, "no such page"))
            if turns := stub.turns.get((self.command, self.path)):
                text = turns.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_request(self, *_: object) -> None:
            """Tests read the records instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="stub-server")
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PILEUS_URL", stub.url)
    monkeypatch.setenv("PILEUS_API_KEY", "sk-pileus-test")
    yield stub
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Typed(StringIO):
    """Standard input where a person sits at a terminal."""

    def isatty(self) -> bool:
        return True


Pileus = Callable[..., Ran]


@pytest.fixture
def pileus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pileus:
    """`pileus("status", "--json")`; `typed` is what a person enters, `piped` what another program sends."""

    def run(*arguments: str, typed: str | None = None, piped: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["pileus", *arguments])
        monkeypatch.setattr(sys, "stdin", StringIO(piped) if typed is None else Typed(typed))
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run
