"""From a trace to the requests of a run: faster or slower, longer or shorter, repeated, by tenant and lane.

The same seed gives the same requests, whatever the policy and whatever happens to them.
"""

from collections.abc import Iterator, Sequence
from heapq import merge
from random import Random
from zlib import crc32

from msgspec import Struct

from pileus.core.records import Lane
from pileus.simulation.request import Request, names_of
from pileus.simulation.traces import MOONCAKE_BLOCK_TOKENS, TraceRequest


class AddedTenant(Struct, frozen=True):
    """One that the trace does not have: so many requests per second at random times, each like one of the trace."""

    name: str
    per_s: float
    lane: Lane = Lane.ON_DEMAND


class Surge(Struct, frozen=True):
    """From that second on, requests come so many times as fast."""

    factor: float
    since: float = 0.0


class Shape(Struct, frozen=True, kw_only=True):
    """What is made of a trace."""

    requests: int | None = None  # fewer than there are, or more by repetition; None is the trace once
    rate_scale: float = 1.0
    length_scale: float = 1.0  # of prompts, answers and the blocks that prompts share
    tenants: int = 0  # requests without one are spread over so many; 0 is a single one
    batch_share: float = 0.0  # of the requests without a tenant, in the batch lane
    max_answer_tokens: int | None = None  # what callers allow; None: each knows the length of its answer
    surges: tuple[Surge, ...] = ()
    added: tuple[AddedTenant, ...] = ()


class Workload:
    """The requests of a run, to be iterated over as often as there are policies."""

    def __init__(self, trace: Sequence[TraceRequest], shape: Shape, seed: int) -> None:
        self._trace = trace
        self._shape = shape
        self._seed = seed
        span = trace[-1].at - trace[0].at
        # A repetition begins as long after the last request as the others are apart.
        self._period = span + (span / (len(trace) - 1) if len(trace) > 1 else 1.0)
        self._count = len(trace) if shape.requests is None else shape.requests
        self.duration_s = max(1e-9, self._time(self._count - 1))  # from the first request to the last

    def __len__(self) -> int:
        """Requests of the trace; those of added tenants come on top."""
        return self._count

    def __iter__(self) -> Iterator[Request]:
        added = [self._arrivals_of(tenant, number) for number, tenant in enumerate(self._shape.added, start=1)]
        return merge(self._replay(), *added, key=lambda request: request.at)

    def _time(self, number: int) -> float:
        """When the request of that number arrives."""
        turn, place = divmod(number, len(self._trace))
        at = (turn * self._period + self._trace[place].at - self._trace[0].at) / self._shape.rate_scale
        for surge in self._shape.surges:
            if at > surge.since:
                at = surge.since + (at - surge.since) / surge.factor
        return at

    def _replay(self) -> Iterator[Request]:
        chance = Random(self._seed)  # noqa: S311  # chance that can be repeated is the point
        shape = self._shape
        for number in range(self._count):
            turn, place = divmod(number, len(self._trace))
            traced = self._trace[place]
            tenant, lane = traced.tenant, traced.lane
            drawn, batch = chance.random(), chance.random()
            if not tenant:
                tenant = self._tenant(traced, turn, drawn)
                lane = Lane.BATCH if batch < shape.batch_share else lane
            yield self._request(traced, self._time(number), tenant, lane, turn)

    def _arrivals_of(self, tenant: AddedTenant, number: int) -> Iterator[Request]:
        chance = Random(f"{self._seed} {number}")  # noqa: S311
        at = chance.expovariate(tenant.per_s)
        while at <= self.duration_s:
            yield self._request(chance.choice(self._trace), at, tenant.name, tenant.lane, 0)
            at += chance.expovariate(tenant.per_s)

    def _tenant(self, traced: TraceRequest, turn: int, drawn: float) -> str:
        """Prompts that begin alike are one tenant's, since tenants share nothing. The first block is everybody's: a
        system prompt, as a rule."""
        count = self._shape.tenants
        if count < 2:
            return "tenant"
        if len(traced.blocks) > 1:
            drawn = crc32(f"{self._seed} {turn} {traced.blocks[1]}".encode()) / 2**32
        return f"tenant-{int(drawn * count)}"

    def _request(self, traced: TraceRequest, at: float, tenant: str, lane: Lane, turn: int) -> Request:
        scale, longest = self._shape.length_scale, self._shape.max_answer_tokens
        answer_tokens = max(1, round(traced.answer_tokens * scale))
        return Request(
            at,
            max(1, round(traced.prompt_tokens * scale)),
            answer_tokens if longest is None else min(answer_tokens, longest),
            max_answer_tokens=longest,
            tenant=tenant,
            lane=lane,
            # A repetition has prompts of its own: else it would find its whole past in the caches.
            names=names_of(hash((crc32(tenant.encode()), turn)), traced.blocks),
            block_tokens=max(1, round(MOONCAKE_BLOCK_TOKENS * scale)),
        )
