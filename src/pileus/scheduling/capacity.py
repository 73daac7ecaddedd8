"""How fast a deployment serves and how long its answers are, as measured: so that needs and waits can be foretold."""

from math import exp, inf

_MEMORY_S = 10.0  # what was seen so long ago counts for a third


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
        self._mean = 0.0
        self._at = -inf

    def observe(self, per_s: float, now: float) -> None:
        """So much gets done now, with something waiting."""
        kept = exp((self._at - now) / _MEMORY_S) if self._mean else 0.0
        self._mean = kept * self._mean + (1 - kept) * per_s
        self._at = now

    @property
    def per_s(self) -> float:
        """0 while it is not known."""
        return self._mean

    def wait_s(self, work: float) -> float:
        """How long this much takes; 0 while nothing is known."""
        return work / self._mean if self._mean else 0.0
