"""A whole gateway over a fleet of fake replicas: the pipeline and the ledger that serve, as one tenant sees them."""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import count

from pileus.config.settings import Settings
from pileus.core.clock import SystemClock
from pileus.core.errors import PileusError
from pileus.core.ports import Ledger, Price, Reservation
from pileus.core.records import (
    EngineRequest,
    GenerationOptions,
    GenerationRequest,
    Principal,
    SamplingParams,
    UsageRecord,
)
from pileus.fleet.controller import Fleet
from pileus.gateway.generation import Generation
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.scheduler import SchedulingOwner
from pileus.gateway.settle import Settlement
from pileus.observability.metrics import Metrics
from pileus.observability.tracing import NoTracer
from pileus.scheduling.routing import RoutingPolicy
from pileus.security.ledger import cost_micros
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions
from pileus.testing.tokenizer import ByteTokenizer

PROMPT = (1, 2, 3)
_WHO = Principal("key", "tenant", "user", frozenset())


class Bills(Ledger):
    """Meets `Ledger`: every usage record by its request. A request that is settled twice is an error."""

    def __init__(self) -> None:
        self.open = 0
        self.settled: dict[str, UsageRecord] = {}

    def reserve(self, principal: Principal, price: Price, prompt_tokens: int, completion_tokens: int) -> Reservation:
        self.open += 1
        return Reservation(
            principal, prompt_tokens + completion_tokens, cost_micros(price, prompt_tokens, completion_tokens)
        )

    def settle(self, reservation: Reservation, usage: UsageRecord) -> None:
        assert usage.request_id not in self.settled, "settled twice"
        self.open -= 1
        self.settled[usage.request_id] = usage


@dataclass
class Answer:
    """What a reader got, and when (monotonic seconds)."""

    request_id: str
    text: str = ""
    error: str = ""  # of which class
    began_s: float = field(default_factory=time.monotonic)
    heard_s: list[float] = field(default_factory=list)

    @property
    def total_s(self) -> float:
        return self.heard_s[-1] - self.began_s

    @property
    def longest_gap_s(self) -> float:
        """Between two pieces of text."""
        return max(after - before for before, after in zip(self.heard_s, self.heard_s[1:], strict=False))


class Gateway:
    """`bills` has one entry per request that ended."""

    def __init__(self, fleet: Fleet, name: str = "fake") -> None:
        self.ledger = Bills()
        self._name = name
        self._numbers = count()
        clock = SystemClock()
        settings = Settings()
        settlement = Settlement(self.ledger, Metrics(), NoTracer(), clock)
        self.scheduling = SchedulingOwner(settings.queue, RoutingPolicy.COST, fleet.directory, settlement, {}, clock)
        self.pipeline = Pipeline(settings.limits, fleet.directory, self.scheduling, str.encode, clock)
        for deployment in fleet.directory.deployments():
            self.pipeline.open(deployment, ByteTokenizer())

    async def open(self, tokens: int, prompt: tuple[int, ...] = PROMPT, seed: int = 7) -> Generation:
        options = GenerationOptions(max_tokens=tokens, seed=seed, ignore_eos=True)
        request = GenerationRequest(id=f"req_{next(self._numbers)}", model=self._name, options=options, prompt=prompt)
        return await self.pipeline.start(_WHO, request)

    async def ask(self, tokens: int, prompt: tuple[int, ...] = PROMPT, seed: int = 7) -> Answer:
        """The answer to its end, or to its error."""
        return await read(await self.open(tokens, prompt, seed))


async def read(generation: Generation, answer: Answer | None = None) -> Answer:
    """To the end, or the error; into that answer, if somebody looks at it meanwhile."""
    answer = answer or Answer(generation.work.request.id)
    try:
        while deltas := await generation.next():
            answer.text += "".join(delta.text for delta in deltas)
            answer.heard_s.append(time.monotonic())
    except PileusError as error:
        answer.error = type(error).__name__
    return answer


def undisturbed(tokens: int, prompt: tuple[int, ...] = PROMPT, seed: int = 7) -> str:
    """What an engine that nothing happens to says to this."""
    engine = FakeEngine(FakeOptions())
    engine.submit(EngineRequest(1, prompt, SamplingParams(max_tokens=tokens, seed=seed)))
    said: list[int] = []
    for output in engine.events():
        said += [token for emission in output.emissions for token in emission.tokens]
        if output.finishes:
            break
    return ByteTokenizer().decode(said)


async def at_rest(fleet: Fleet, gateway: Gateway, within_s: float = 20.0) -> None:
    """Return once no request holds anything: no place, no slot, no KV block, no reservation."""
    async with asyncio.timeout(within_s):
        while not _rests(fleet, gateway):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # a replica tells its figures twice a second


def _rests(fleet: Fleet, gateway: Gateway) -> bool:
    links = [link for name in fleet.directory.deployments() for link in fleet.directory.ready(name)]
    held = [(link.open_requests, link.stats.running, link.stats.waiting, link.stats.kv_blocks_used) for link in links]
    return not any(map(any, held)) and not gateway.ledger.open and not gateway.scheduling.waiting("fake")
