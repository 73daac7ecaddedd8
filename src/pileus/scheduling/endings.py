"""How what runs gets on: when it will probably have ended, so that there is room for others, and how much of it gets
done per second.

A rate alone does not tell when the next slot comes free: after a burst all slots are as young as the burst, and none
does for the length of an answer. And a rate cannot be told by counting what ends while others wait, where nobody may
wait for long: that counts only the moments when slots come free. So it is told from what runs and how long that takes
(J. Little, "A Proof for the Queuing Formula L = lambda W", 1961).
"""

from bisect import bisect_left, insort

from msgspec import Struct

_MEMORY = 0.95  # of what was learnt from an answer, after the next


class _Run(Struct, frozen=True):
    since: float
    ran_s: float  # before that, on other replicas
    foretold_s: float  # the whole answer
    ends: float  # as foretold, and no later
    density: float  # work per token of its answer


class Endings:
    """Of requests by a number that is each one's own. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._took_s = self._tokens = 0.0  # of answers, lately
        self._haste = 0.0  # mean share by which answers end before they are foretold to
        self._runs: dict[int, _Run] = {}
        self._order: list[tuple[float, int]] = []  # by when they end, sorted
        self._density = 0.0  # of all that run

    @property
    def work_per_s(self) -> float:
        """What gets done of all that runs; 0 while it is not known."""
        return self._density * self._tokens / self._took_s if self._took_s else 0.0

    def begin(self, number: int, work: float, answer_tokens: float, now: float, ran_s: float = 0.0) -> None:
        """It runs, and has for so long before. Work and tokens as foretold."""
        foretold_s = answer_tokens * self._took_s / self._tokens if self._tokens else 0.0
        ends = now + max(0.0, foretold_s * (1 - self._haste) - ran_s)
        self._runs[number] = run = _Run(now, ran_s, foretold_s, ends, work / max(1.0, answer_tokens))
        self._density += run.density
        insort(self._order, (ends, number))

    def leave(self, number: int, now: float) -> float:
        """It runs no more, though it has not ended; for how long it has run by now."""
        run = self._runs.pop(number)
        del self._order[bisect_left(self._order, (run.ends, number))]
        self._density = self._density - run.density if self._runs else 0.0
        return run.ran_s + now - run.since

    def end(self, number: int, answer_tokens: int, now: float) -> None:
        """It has ended with so many tokens: learn from it."""
        foretold_s = self._runs[number].foretold_s
        took_s = self.leave(number, now)
        if answer_tokens:
            self._took_s = _MEMORY * self._took_s + took_s
            self._tokens = _MEMORY * self._tokens + answer_tokens
        if foretold_s:
            early = max(0.0, 1 - took_s / foretold_s)
            self._haste = _MEMORY * self._haste + (1 - _MEMORY) * early

    def wait_s(self, before: int, now: float) -> float:
        """How long until so many have ended, and one more; 0 where nothing is known of so many."""
        return max(0.0, self._order[before][0] - now) if before < len(self._order) else 0.0
