"""One timer for all streams: what waits a moment for more to come is woken together with all else that does."""

import asyncio
from collections.abc import Callable

LEAST_INTERVAL_S = 0.002  # between two events of one stream


class Pulse:
    """Belongs to the event loop's thread. Beats only while somebody waits for it."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def at_next_beat(self, callback: Callable[[], None]) -> None:
        """Call it once, within `LEAST_INTERVAL_S`."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(LEAST_INTERVAL_S, self._beat)
        self._waiting.append(callback)

    def _beat(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
