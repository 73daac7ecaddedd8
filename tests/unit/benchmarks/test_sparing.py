"""The load generator that looks now and then: it counts whole answers, whose they are, and what it began."""

import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.sparing import Task, run

ANSWER = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n17\r\ndata: {"a":1}\n\ndata: {"b":2}\n\n\r\n0\r\n\r\n'


class Upstream:
    """Answers everything with `ANSWER`, or with what a test sets, and counts."""

    def __init__(self) -> None:
        self.answer = ANSWER
        self.answered = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while connection.recv(4096):
                self.answered += 1  # before whoever asked can know
                connection.sendall(self.answer)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


def test_every_answer_is_counted_once_and_for_its_request(upstream: Upstream) -> None:
    tally = run(Task(upstream.port, [b"one", b"two"], connections=4, warm_up_s=0.1, duration_s=0.3))
    assert tally.whole == upstream.answered
    assert sum(tally.answers) > 0
    assert tally.events == pytest.approx(2 * sum(tally.answers), abs=8)  # as many may come a look before their end
    assert tally.answers[0] == pytest.approx(tally.answers[1], abs=4)


def test_a_refusal_is_no_answer(upstream: Upstream) -> None:
    upstream.answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(ConnectionError, match="503"):
        run(Task(upstream.port, [b"one"], connections=1, warm_up_s=0.0, duration_s=0.5))
