"""How fast a deployment serves and how long its answers are, as measured: so that needs and waits can be foretold."""

from math import exp

_MEMORY_S = 10.0  # what happened so long ago counts for a third
_KNOWN_S = 0.5  # a rate that was measured for less is not known


class AnswerLength:
    """How long a deployment's answers tend to be."""

    def __init__(self, initial: float = 128.0, memory: float = 0.98) -> None:
        self._mean = initial
        self._memory = memory

    def observe(self, tokens: float) -> None:
        """One answer's length."""
        self._mean = self._memory * self._mean + (1 - self._memory) * tokens

    def predict(self, max_tokens: int) -> int:
        """Tokens that an answer of at most `max_tokens` will probably have."""
        return min(max_tokens, round(self._mean))


class ServiceRate:
    """Work done per second while something waited: what the deployment can do, not what it was asked for."""

    def __init__(self) -> None:
        self._work = 0.0
        self._busy_s = 0.0
        self._at: float | None = None

    def begin(self, now: float) -> None:
        """There is something to do again: the time without anything tells nothing."""
        if self._at is not None:
            self._at = max(self._at, now)

    def observe(self, work: float, now: float, *, busy: bool) -> None:
        """So much was done since the last call; `busy` tells whether something waited meanwhile."""
        since_s = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        if busy:
            fade = exp(-since_s / _MEMORY_S)
            self._work = self._work * fade + work
            self._busy_s = self._busy_s * fade + since_s

    @property
    def per_s(self) -> float:
        """0 while it is not known."""
        return self._work / self._busy_s if self._busy_s > _KNOWN_S else 0.0

    def wait_s(self, work: float) -> float:
        """How long this much takes; 0 while nothing is known."""
        return work / self.per_s if self.per_s else 0.0
