"""A model hub on this machine, with the faults that a test asks for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """A hub on this machine: serves `content`, and can break off, forget ranges or refuse."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.breaks_after: list[int] = []  # for each coming request: how many bytes before the connection ends
        self.knows_ranges = True
        self.status = 200
        self.ranges: list[str | None] = []  # as asked for
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("range")
        self.ranges.append(asked)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.knows_ranges else 0
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        with suppress(ConnectionError):  # the client may leave
            request.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self._hub = hub
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._hub.answer(self)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[Hub]:
    hub = Hub(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
