"""Keeps as many lines under way as their deployments can use, until all are done or somebody says stop."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

# Of what a deployment's replicas can do at the same time: while one half runs the other waits, so that none is idle.
WIDTH: Final = 2
LEAST_WIDTH: Final = 4  # also while it sleeps: somebody has to wake it
MOST_WIDTH: Final = 512


class _Stream:
    """The lines for one deployment, in their order."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        self.alone: deque[int] = deque()  # to run again, each when nothing else does
        self.running = 0


class Runner:
    """`run_line` does one line, and says whether it is to run again, which it does at the end and by itself. It raises
    only what ends all of them. For one event loop."""

    def __init__(
        self,
        turns: Iterable[tuple[str, int]],
        run_line: Callable[[int], Awaitable[bool]],
        *,
        slots: Callable[[str], int],
        may_begin: Callable[[], bool],
    ) -> None:
        self._run_line = run_line
        self._slots = slots  # of a deployment
        self._may_begin = may_begin
        self._streams: dict[str, _Stream] = {}
        self._tasks: set[asyncio.Task[bool]] = set()
        self._failure: BaseException | None = None
        self.exhausted = False  # every line ran to an end of its own
        self._stopped = False
        self._over = asyncio.Event()
        for deployment, place in turns:
            self._streams.setdefault(deployment, _Stream()).waiting.append(place)

    async def run(self) -> None:
        """Return when nothing runs any more and nothing is to begin."""
        try:
            self.look()
            await self._over.wait()
        finally:
            await self.cancel()
        if self._failure is not None:
            raise self._failure

    def look(self) -> None:
        """Begin what can begin; call it also when there may be more room."""
        for deployment, stream in self._streams.items():
            width = min(max(WIDTH * self._slots(deployment), LEAST_WIDTH), MOST_WIDTH)
            while stream.waiting and stream.running < width and not self._stopped and self._may_begin():
                self._begin(stream, stream.waiting.popleft())
            if stream.alone and not (stream.waiting or stream.running or self._stopped) and self._may_begin():
                self._begin(stream, stream.alone.popleft())
        if not self._tasks and (
            self._stopped or not any(each.waiting or each.alone for each in self._streams.values())
        ):
            self.exhausted = self.exhausted or not self._stopped
            self._over.set()

    async def stop(self, grace_s: float) -> None:
        """Begin nothing more; what has not ended after `grace_s` seconds is cancelled."""
        self._stopped = True
        if self._tasks and grace_s > 0:
            await asyncio.wait(tuple(self._tasks), timeout=grace_s)
        await self.cancel()
        self.look()

    async def cancel(self) -> None:
        """End what runs."""
        self._stopped = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, stream: _Stream, place: int) -> None:
        stream.running += 1
        task = asyncio.ensure_future(self._run_line(place))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._on_ended(stream, place, ended))

    def _on_ended(self, stream: _Stream, place: int, task: "asyncio.Task[bool]") -> None:
        stream.running -= 1
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = self._failure or failure
            self._stopped = True
            for other in self._tasks:
                other.cancel()
        elif not task.cancelled() and task.result():
            stream.alone.append(place)
        self.look()
