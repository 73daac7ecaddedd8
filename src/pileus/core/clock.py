"""The clock port: deadlines and durations use `monotonic`, records that people read use `wall`."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time. Decision code takes a time as an argument instead of holding one of these."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump when the machine's clock is set."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
