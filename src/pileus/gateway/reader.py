"""Whoever waits for an answer: woken for what came, but never more often than somebody can read."""

import asyncio
from collections.abc import Callable

from pileus.gateway.pulse import LEAST_INTERVAL_S, Pulse


class Reader:
    """At most one waits at a time. Belongs to the event loop's thread."""

    __slots__ = ("_given_at", "_now", "_pulse", "_waiting", "_will_wake", "patient")

    def __init__(self, pulse: Pulse, now: Callable[[], float]) -> None:
        self.patient = False  # it waits for the end, and is not woken before
        self._pulse = pulse
        self._now = now
        self._waiting: asyncio.Future[None] | None = None
        self._given_at: float | None = None
        self._will_wake = False  # at the next beat

    def given(self) -> None:
        """It was handed something now."""
        self._given_at = self._now()

    async def wait(self) -> None:
        """Until it is woken."""
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def wake(self) -> None:
        """At once: for the end."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def wake_soon(self, now: float) -> None:
        """At the next beat where it was handed something just before, for nobody reads faster and each time costs a
        write to a socket. Only engines whose steps are shorter notice; the first token never waits."""
        if self.patient or self._will_wake:
            return
        if self._given_at is None or now - self._given_at >= LEAST_INTERVAL_S:
            self.wake()
        else:
            self._will_wake = True
            self._pulse.at_next_beat(self._on_beat)

    def _on_beat(self) -> None:
        self._will_wake = False
        self.wake()
