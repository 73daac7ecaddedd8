"""A server of somebody who wants to be told: it keeps what it is sent, and answers as told."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_LIMIT_S = 60.0


@dataclass(frozen=True)
class Received:
    """One request, with the status that it got."""

    path: str
    headers: dict[str, str]  # by their names in lower case
    body: bytes
    status: int


@dataclass
class Receiver:
    """Answers the statuses in `script`, and 200 after them."""

    port: int = 0
    script: deque[int] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for(self, count: int) -> list[Received]:
        """The first so many requests, once they are there."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.received) >= count, _LIMIT_S), self.received
            return self.received[:count]


@contextmanager
def receiving(*script: int, port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(script=deque(script))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with receiver.came:
                status = receiver.script.popleft() if receiver.script else 200
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body, status))
                receiver.came.notify_all()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_request(self, *_: object) -> None:
            """Tests read what was received instead."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="receiver")
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
