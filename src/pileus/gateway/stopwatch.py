"""Where the time of one request goes, over as many replicas as it takes."""

from collections.abc import Callable

from pileus.core.records import Started
from pileus.gateway.records import Timings
from pileus.observability.latency import LatencyCounts


class Stopwatch:
    """Times are monotonic seconds. It waits in a queue from the start."""

    __slots__ = (
        "_began",
        "_decode_s",
        "_decoded_before_s",
        "_decoding_since",
        "_ended_at",
        "_now",
        "_prefill_s",
        "_queue_s",
        "_queued_at",
        "intervals",
        "ttft_s",
    )

    def __init__(self, now: Callable[[], float], began: float) -> None:
        self.intervals = LatencyCounts()  # between two tokens of a choice
        self.ttft_s: float | None = None
        self._now = now
        self._began = began
        self._queued_at = now()
        self._ended_at: float | None = None
        self._decoding_since: float | None = None  # on the present replica
        self._decoded_before_s = 0.0  # on those that it left
        self._queue_s = self._prefill_s = self._decode_s = 0.0

    @property
    def waited_s(self) -> float:
        """In the queue, this time."""
        return self._now() - self._queued_at

    @property
    def timings(self) -> Timings:
        """Up to now, or to the end."""
        total_s = (self._now() if self._ended_at is None else self._ended_at) - self._began
        gateway_s = max(0.0, total_s - self._queue_s - self._prefill_s - self._decode_s)
        return Timings(self._queue_s, self._prefill_s, self._decode_s, gateway_s, total_s)

    def placed(self) -> None:
        """It leaves the queue for a replica."""
        self._queue_s += self.waited_s

    def started(self, started: Started) -> None:
        self._prefill_s += started.wait_s + started.prefill_s
        self._decoding_since = self._now()

    def heard(self, before: float | None) -> float:
        """A choice said something, and did so at that time before, if ever. Returns the time."""
        now = self._now()
        if self.ttft_s is None:
            self.ttft_s = now - self._began
        if before is not None and now > before:
            self.intervals.add(now - before)
        return now

    def finished(self, decode_s: float) -> None:
        """A choice did, which took so long on the present replica."""
        self._decode_s = max(self._decode_s, self._decoded_before_s + decode_s)

    def queued_again(self) -> None:
        """It leaves its replica for the queue."""
        self._queued_at = self._now()
        if self._decoding_since is not None:
            self._decoded_before_s += self._queued_at - self._decoding_since
            self._decode_s, self._decoding_since = self._decoded_before_s, None

    def end(self) -> None:
        self._ended_at = self._now()
