"""From the queue of one deployment to a replica that has room."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from pileus.core.clock import Clock
from pileus.core.errors import Overloaded
from pileus.core.ports import ReplicaSink
from pileus.core.records import EngineRequest
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.pulse import Pulse
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.routing import AnswerLength, ReplicaLoad, least_loaded


class Dispatched(ReplicaSink, Protocol):
    """A request on its way to a replica."""

    @property
    def tokens(self) -> int:
        """Worst case, over all choices."""
        ...

    def engine_request(self) -> EngineRequest:
        """What is still to be computed."""
        ...

    def on_dispatched(self, link: ReplicaLink, wire_id: int) -> None:
        """It is on that replica now, under that id."""

    def on_expired(self) -> None:
        """It waited too long and left the queue."""


class Dispatcher:
    """One deployment's queue. Whatever changes (a request, a credit, a replica), `pump` moves what can be moved."""

    def __init__(
        self,
        deployment: str,
        ready: Callable[[], Sequence[ReplicaLink]],
        queue: AdmissionQueue[Dispatched],
        clock: Clock,
    ) -> None:
        self.deployment = deployment
        self.lengths = AnswerLength()
        self.pulse = Pulse()
        self._ready = ready
        self._queue = queue
        self._clock = clock
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def enqueue(self, item: Dispatched) -> None:
        """Raises `Overloaded` where the queue is full."""
        refusal = self._queue.offer(item, self._clock.monotonic())
        if refusal is not None:
            raise Overloaded(
                f"{self.deployment} is overloaded: {refusal.reason}. Try again in {refusal.retry_after_s:.0f} s.",
                retry_after_s=refusal.retry_after_s,
            )
        self.pump()

    def requeue(self, item: Dispatched) -> None:
        """Ahead of all others: its replica died."""
        self._queue.put_back(item, self._clock.monotonic())
        self.pump()

    def withdraw(self, item: Dispatched) -> None:
        """It is not wanted any more; no-op if it does not wait here. What it stood before may fit."""
        if self._queue.withdraw(item):
            self.pump()

    def served(self, item: Dispatched, completion_tokens: int, choices: int) -> None:
        """Learn from a request that ended."""
        self._queue.served(item.tokens, self._clock.monotonic())
        self.lengths.observe(completion_tokens // choices)

    def pump(self) -> None:
        """Send the head of the queue wherever it fits, until it does not."""
        while (head := self._queue.head()) is not None:
            links = self._ready()
            link = self._route(head.engine_request(), links) if links else None
            if link is None:
                break
            self._queue.take()
            head.on_dispatched(link, link.submit(head.engine_request(), head))
        self._watch_expiry()

    def _route(self, request: EngineRequest, links: Sequence[ReplicaLink]) -> ReplicaLink | None:
        answer = self.lengths.predict(request.params.max_tokens)
        block_size = links[0].capabilities.block_size
        kv_blocks = (len(request.prompt) + answer * len(request.choices)) // block_size + 1
        index = least_loaded(len(request.choices), kv_blocks, [_load(link) for link in links])
        return None if index is None else links[index]

    def _watch_expiry(self) -> None:
        if self._expiry is not None or (due := self._queue.next_expiry()) is None:
            return
        delay = max(0.0, due - self._clock.monotonic())
        self._expiry = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        for item in self._queue.expire(self._clock.monotonic()):
            item.on_expired()
        self.pump()


def _load(link: ReplicaLink) -> ReplicaLoad:
    free, capabilities = link.available(), link.capabilities
    return ReplicaLoad(capabilities.slots, capabilities.kv_blocks, free.slots, free.kv_blocks)
