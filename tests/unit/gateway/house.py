"""A dispatcher over replicas that do what the test says."""

from typing import Any, cast

from pileus.core.ports import ReplicaSink
from pileus.core.records import (
    Capabilities,
    Continuation,
    Credit,
    Emission,
    EngineRequest,
    Finish,
    FinishReason,
    GenerationOptions,
    GenerationRequest,
    Lane,
    SamplingParams,
)
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.dispatch import Dispatched, Dispatcher
from pileus.gateway.failovers import Failovers
from pileus.gateway.generation import Generation
from pileus.gateway.records import Delta, Work
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.routing import Router
from pileus.testing.clock import ManualClock
from pileus.testing.tokenizer import ByteTokenizer
from unbilled import Unbilled, principal

PROMPT = (1, 2, 3)


class Replica:
    """What a dispatcher and a generation use of a `ReplicaLink`."""

    def __init__(self, slots: int = 4, continuation: Continuation = Continuation.CONTINUABLE) -> None:
        self.capabilities = Capabilities(
            model="m",
            max_context=100,
            slots=slots,
            kv_blocks=100,
            block_size=32,
            continuation=continuation,
            vocab_size=2000,
        )
        self.replica, self.epoch = f"d/{id(self)}", 1
        self.step_s, self.draining = 0.0, False
        self.token_s: list[float] = []
        self.requests: list[EngineRequest] = []
        self.cancelled: list[int] = []
        self.cancelled_choices: list[tuple[int, int]] = []
        self.free_slots = slots

    def available(self) -> Credit:
        return Credit(self.free_slots, 100)

    def submit(self, request: EngineRequest, sink: ReplicaSink) -> int:
        self.requests.append(request)
        self.free_slots -= len(request.choices)
        return len(self.requests)

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def cancel_choice(self, request_id: int, choice: int) -> None:
        self.cancelled_choices.append((request_id, choice))


class House:
    """A dispatcher over replicas, and the endings of what went through it."""

    def __init__(
        self,
        *replicas: Replica,
        max_wait_s: float = 60.0,
        max_requests: int = 10,
        failovers: Failovers | None = None,
    ) -> None:
        self.replicas: tuple[Replica, ...] = ()
        self.clock = ManualClock()
        queue: AdmissionQueue[Dispatched] = AdmissionQueue(Bounds(max_requests, 10_000, max_wait_s, 60.0))
        self.dispatcher = Dispatcher("d", queue, Router(), self.clock, failovers=failovers)
        self.scheduler = Unbilled(self.dispatcher)
        self.endings = self.scheduler.endings
        self.serve_with(*replicas)

    def serve_with(self, *replicas: Replica) -> None:
        """These take requests, and no others."""
        news = {**dict.fromkeys(self.replicas, False), **dict.fromkeys(replicas, True)}
        self.replicas = replicas
        self.dispatcher.on_news(cast(dict[ReplicaLink, bool], news))

    def generation(
        self,
        timeout_s: float = 60.0,
        lane: Lane = Lane.ON_DEMAND,
        tenant: str = "t",
        deadline_s: float | None = None,
        **wishes: Any,
    ) -> Generation:
        options = GenerationOptions(**wishes)
        request = GenerationRequest(
            id="req_1", model="d", options=options, prompt="x", lane=lane, deadline_s=deadline_s
        )
        params = SamplingParams(max_tokens=50, seed=1, logprobs=options.logprobs)
        work = Work(request, principal(tenant), "d", PROMPT, params, b"", ())
        generation = Generation(work, ByteTokenizer(), self.scheduler, self.clock, self.clock.monotonic())
        self.scheduler.begin(generation, timeout_s)
        return generation


def say(generation: Generation, text: str, choice: int = 0) -> None:
    for letter in text.encode():
        generation.on_emission(Emission(1, choice, (letter,)))


def finish(generation: Generation, reason: FinishReason = FinishReason.STOP, choice: int = 0, error: str = "") -> None:
    generation.on_finish(Finish(1, choice, reason, 0.5, error))


async def read(generation: Generation) -> list[Delta]:
    found: list[Delta] = []
    while deltas := await generation.next():
        found += deltas
    return found


def text_of(deltas: list[Delta], choice: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.choice == choice)
