"""Requests that arrive when they arrive, whether or not those before them were answered."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from time import perf_counter

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
    """What became of an arrival. Times are on the measuring clock."""

    who: str
    answer: Timeline | Refused


def poisson(who: str, request: bytes, per_s: float, duration_s: float, seed: str) -> Iterator[Arrival]:
    """Independent arrivals at a mean rate."""
    draws = random.Random(seed)
    at_s = draws.expovariate(per_s)
    while at_s < duration_s:
        yield Arrival(at_s, who, request)
        at_s += draws.expovariate(per_s)


def bursts(who: str, request: bytes, size: int, every_s: float, duration_s: float) -> Iterator[Arrival]:
    """`size` requests at once, again and again."""
    for number in range(int(duration_s / every_s)):
        for _ in range(size):
            yield Arrival(number * every_s, who, request)


async def send_openly(endpoint: Endpoint, arrivals: Sequence[Arrival], tokens: int) -> list[Answered]:
    """Send each in its time, on a connection of its own while it lasts, and wait for all answers."""
    idle: list[Connection] = []
    begun_s = perf_counter()

    async def send(arrival: Arrival) -> tuple[Arrival, RawAnswer]:
        connection = idle.pop() if idle else (await connect(endpoint, 1))[0]
        raw = await connection.send(arrival.request)
        idle.append(connection)
        return arrival, raw

    sent: list[asyncio.Task[tuple[Arrival, RawAnswer]]] = []
    for arrival in sorted(arrivals, key=lambda one: one.at_s):
        if (wait_s := begun_s + arrival.at_s - perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        sent.append(asyncio.create_task(send(arrival)))
    try:
        return [
            Answered(arrival.who, read_any(raw, arrival.tokens or tokens))
            for arrival, raw in await asyncio.gather(*sent)
        ]
    finally:
        for connection in idle:
            connection.close()
