"""A load generator that leaves the processor to what it measures: it looks at its sockets fifty times a second.

Run as a process of its own: `python -m benchmarks.sparing` reads a `Task` as JSON from standard input and writes a
`Tally` to standard output. What it cannot tell is latencies.
"""

import socket
import sys
from time import perf_counter, process_time, sleep

import msgspec
from msgspec import Struct

_LOOK_S = 0.02
_READ_BYTES = 1 << 18
_LAST_CHUNK = b"0\r\n\r\n"
_EVENT = b"\ndata: {"


class Task(Struct, frozen=True):
    """A closed loop over keep-alive connections: connection n sends `requests[n % len(requests)]` again and again."""

    port: int
    requests: list[bytes]
    connections: int
    warm_up_s: float
    duration_s: float


class Tally(Struct, frozen=True):
    """What came in the time that counts: by request, how many whole answers; and all events."""

    answers: list[int]
    events: int
    seconds: float
    cpu_share: float  # of one core, that this process took
    whole: int = 0  # answers in all, those before and after the time that counts too


def run(task: Task) -> Tally:
    """Raises `ConnectionError` where the server closes a connection or refuses."""
    connections = [_connect(task.port, task.requests[n % len(task.requests)]) for n in range(task.connections)]
    try:
        before = _serve(connections, task, task.warm_up_s)
        tally = _serve(connections, task, task.duration_s)
        after = _drain(connections)
        return msgspec.structs.replace(tally, whole=sum(before.answers) + sum(tally.answers) + after)
    finally:
        for connection in connections:
            connection.socket.close()


class _Connection:
    def __init__(self, to: socket.socket, request: bytes) -> None:
        self.socket = to
        self.request = request
        self.tail = b""

    def read(self) -> bytes:
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionError("the server closed a connection")
        self.tail = (self.tail + data)[-len(_LAST_CHUNK) :]
        return data


def _connect(port: int, request: bytes) -> _Connection:
    to = socket.create_connection(("127.0.0.1", port))
    to.setblocking(False)
    to.send(request)
    return _Connection(to, request)


def _serve(connections: list[_Connection], task: Task, duration_s: float) -> Tally:
    answers, events = [0] * len(task.requests), 0
    begun_s, begun_cpu_s = perf_counter(), process_time()
    while perf_counter() < begun_s + duration_s:
        sleep(_LOOK_S)
        for number, connection in enumerate(connections):
            data = connection.read()
            if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"refused: {data[:200]!r}")
            events += data.count(_EVENT)
            if connection.tail == _LAST_CHUNK:
                answers[number % len(task.requests)] += 1
                connection.tail = b""
                connection.socket.send(connection.request)
    seconds = perf_counter() - begun_s
    return Tally(answers, events, seconds, (process_time() - begun_cpu_s) / seconds)


def _drain(connections: list[_Connection]) -> int:
    """What was begun is finished."""
    answers, left = 0, list(connections)
    while left:
        sleep(_LOOK_S)
        for connection in tuple(left):
            connection.read()
            if connection.tail == _LAST_CHUNK:
                answers += 1
                left.remove(connection)
    return answers


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Task))))
