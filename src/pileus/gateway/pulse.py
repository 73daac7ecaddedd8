"""One timer for all streams: what waits a moment for more to come is woken together with all else that does."""

import asyncio
from collections.abc import Callable


class Pulse:
    """Belongs to the event loop's thread. Beats only while somebody waits for it."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._waiting: list[Callable[[], None]] = []

    def at_next_beat(self, callback: Callable[[], None]) -> None:
        """Call it once, within the interval."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(self._interval_s, self._beat)
        self._waiting.append(callback)

    def _beat(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
