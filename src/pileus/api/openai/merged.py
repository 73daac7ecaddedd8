"""Several prompts of one request as a single answer: the choices of the second prompt follow those of the first."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from pileus.core.records import GenerationRequest, Principal
from pileus.gateway.generation import Generation
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.records import Delta, Timings, Usage


async def start_all(
    pipeline: Pipeline, principal: Principal, requests: Sequence[GenerationRequest]
) -> "Generation | Merged":
    """Start them all; where one is refused, none goes on."""
    if len(requests) == 1:
        return await pipeline.start(principal, requests[0])
    starting = [asyncio.ensure_future(pipeline.start(principal, request)) for request in requests]
    try:
        return Merged([await each for each in starting], requests[0].options.n)
    except BaseException:
        for each in starting:
            if not each.cancel() and not each.cancelled() and each.exception() is None:
                each.result().cancel()
        raise


class Merged:
    """Gives the deltas of whichever generation has some; ends when all have ended."""

    def __init__(self, generations: Sequence[Generation], n: int) -> None:
        self._generations = generations
        self._n = n
        self._waiting: dict[asyncio.Task[list[Delta]], int] = {}
        self._begun = False
        self.deployment = generations[0].deployment
        self.created = generations[0].created

    async def next(self, *, whole: bool = False) -> list[Delta]:
        if not self._begun:
            self._begun = True
            for index in range(len(self._generations)):
                self._await_next(index, whole)
        while self._waiting:
            done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            found = [delta for task in done for delta in self._take(task, whole)]
            if found:
                return found
        return []

    def cancel(self) -> None:
        for task in self._waiting:
            task.cancel()
        for generation in self._generations:
            generation.cancel()

    @property
    def usage(self) -> Usage:
        each = [generation.usage for generation in self._generations]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in each),
            cached_tokens=sum(usage.cached_tokens for usage in each),
            completion_tokens=sum(usage.completion_tokens for usage in each),
        )

    @property
    def timings(self) -> Timings:
        """Of the slowest: the prompts run side by side."""
        return max((generation.timings for generation in self._generations), key=lambda timings: timings.total_s)

    def _await_next(self, index: int, whole: bool) -> None:
        self._waiting[asyncio.ensure_future(self._generations[index].next(whole=whole))] = index

    def _take(self, task: asyncio.Task[list[Delta]], whole: bool) -> list[Delta]:
        index = self._waiting.pop(task)
        deltas = task.result()
        if deltas:
            self._await_next(index, whole)
        return [replace(delta, choice=delta.choice + index * self._n) for delta in deltas]
