"""Requests that arrive when they arrive, whether or not those before them were answered."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from time import perf_counter, process_time

from msgspec import Struct

from benchmarks.answers import Refused, Timeline, read_any
from benchmarks.client import Connection, Endpoint, RawAnswer, connect


class Arrival(Struct, frozen=True):
    """One request: when it is sent, in seconds from the beginning, whose it is, and its bytes. `tokens` are its
    answer's, where answers differ in length."""

    at_s: float
    who: str
    request: bytes
    tokens: int | None = None


class Answered(Struct, frozen=True):
    """What became of an arrival, and when it should have been sent. Times are on the measuring clock."""

    who: str
    due_s: float
    answer: Timeline | Refused


class Sent(Struct, frozen=True):
    """An open loop's outcome; `client_cpu` is the share of a core that sending and receiving took."""

    begun_s: float  # on the measuring clock
    answers: list[Answered]
    client_cpu: float

    def of(self, who: str) -> "Sent":
        return Sent(self.begun_s, [one for one in self.answers if one.who == who], self.client_cpu)


def poisson(who: str, request: bytes, per_s: float, duration_s: float, seed: str) -> Iterator[Arrival]:
    """Independent arrivals. Of all that a Poisson process may give, one in which as many come as the rate says: else a
    short load is another one than was meant."""
    draws = random.Random(seed)
    for at_s in sorted(draws.uniform(0, duration_s) for _ in range(round(per_s * duration_s))):
        yield Arrival(at_s, who, request)


def bursts(who: str, request: bytes, size: int, every_s: float, first_s: float, duration_s: float) -> Iterator[Arrival]:
    """`size` requests at once, again and again."""
    at_s = first_s
    while at_s < duration_s:
        for _ in range(size):
            yield Arrival(at_s, who, request)
        at_s += every_s


async def send_openly(endpoint: Endpoint, arrivals: Sequence[Arrival], tokens: int) -> Sent:
    """Send each in its time, on a connection of its own while it lasts, and wait for all answers."""
    idle: list[Connection] = []
    begun_s, begun_cpu_s = perf_counter(), process_time()

    async def send(arrival: Arrival) -> RawAnswer:
        connection = idle.pop() if idle else (await connect(endpoint, 1))[0]
        raw = await connection.send(arrival.request)
        idle.append(connection)
        return raw

    ordered = sorted(arrivals, key=lambda one: one.at_s)
    sent: list[asyncio.Task[RawAnswer]] = []
    try:
        for arrival in ordered:
            if (wait_s := begun_s + arrival.at_s - perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            sent.append(asyncio.create_task(send(arrival)))
        raws = await asyncio.gather(*sent)
    finally:
        for connection in idle:
            connection.close()
    client_cpu = (process_time() - begun_cpu_s) / (perf_counter() - begun_s)
    answers = [
        Answered(arrival.who, begun_s + arrival.at_s, read_any(raw, arrival.tokens or tokens))
        for arrival, raw in zip(ordered, raws, strict=True)
    ]
    return Sent(begun_s, answers, client_cpu)
