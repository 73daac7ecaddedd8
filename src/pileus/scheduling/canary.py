"""Whether a canary may have more of the requests, must go, or is to be watched on.

Three sequential tests look at it, each a likelihood ratio that is multiplied on as requests end:

- errors, and answers that begin slowly: of the requests with such a mark, the canary's share is expected to be its
  share of all requests (what else happens to both at the same time, e.g. load, so does not count against it), against
  its having `ODDS` times that;
- errors by themselves, for a canary beside which the stable deployment has nothing to do: at most `USUAL_ERRORS`,
  against `BAD_ERRORS`.

Under the first of the two hypotheses the ratio is a supermartingale, so it ever reaches 1 / alpha with a probability of
at most alpha, however often one looks (Ville's inequality; Wald's sequential test). `alpha` is shared by tests and
steps: a good canary is rolled back with a probability of at most `ALPHA` in all. The shares of marks are hypergeometric
where the ratio takes them for binomial, which errs on the canary's side (Hoeffding 1963, theorem 4).
"""

from bisect import bisect_left
from enum import StrEnum
from math import log
from typing import Final

from msgspec import Struct

from pileus.observability.latency import BOUNDS_S, LatencyCounts

ALPHA: Final = 0.05
ODDS: Final = 3.0
USUAL_ERRORS: Final = 0.05
BAD_ERRORS: Final = 0.5
SLOWER: Final = 1.5  # times the stable's 95th percentile is slow
_TESTS: Final = 3
_LEAST_FOR_PERCENTILE: Final = 20


class Plan(Struct, frozen=True, kw_only=True):
    """How a canary comes to have all requests."""

    weights: tuple[float, ...]  # step by step
    hold_s: float  # each step, at least
    least_requests: int = 20  # of the canary, in each step


class Counts(Struct, frozen=True):
    """What a deployment has served since some time in the past."""

    requests: int
    errors: int
    ttft: LatencyCounts

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(self.requests - earlier.requests, self.errors - earlier.errors, self.ttft.since(earlier.ttft))


class Act(StrEnum):
    """What is to be done."""

    HOLD = "hold"
    ADVANCE = "advance"  # the next weight
    FINISH = "finish"  # all requests
    ROLL_BACK = "roll_back"


class Decision(Struct, frozen=True):
    """One, and why."""

    act: Act
    reason: str = ""


class Watch:
    """One step of a canary. Times are monotonic seconds, given by the caller."""

    def __init__(self, plan: Plan, step: int, stable: Counts, canary: Counts, now: float) -> None:
        self._plan = plan
        self._step = step
        self._began = now
        self._first = self._last = (stable, canary)
        self._limit = log(_TESTS * len(plan.weights) / ALPHA)
        self._ratios = {"errors": 0.0, "slow": 0.0, "alone": 0.0}  # logarithms
        self._slow: int | None = None  # the last bucket that is not slow

    @property
    def answered(self) -> int:
        """Requests of the canary that ended in this step."""
        return self._last[1].requests - self._first[1].requests

    def observe(self, stable: Counts, canary: Counts, now: float) -> Decision:
        """With what both have served by now."""
        new_stable, new_canary = stable.since(self._last[0]), canary.since(self._last[1])
        self._last = (stable, canary)
        self._weigh(new_stable, new_canary)
        self._settle_slow(stable)
        if (reason := self._against()) is not None:
            return Decision(Act.ROLL_BACK, reason)
        if now - self._began < self._plan.hold_s or self.answered < self._plan.least_requests:
            return Decision(Act.HOLD)
        last = self._step + 1 == len(self._plan.weights)
        return Decision(Act.FINISH if last else Act.ADVANCE)

    def _weigh(self, stable: Counts, canary: Counts) -> None:
        n, m = canary.requests, stable.requests
        self._ratios["errors"] += _shared(canary.errors, stable.errors, n, m)
        self._ratios["alone"] += canary.errors * log(BAD_ERRORS / USUAL_ERRORS)
        self._ratios["alone"] += (n - canary.errors) * log((1 - BAD_ERRORS) / (1 - USUAL_ERRORS))
        if self._slow is not None:
            slow = _beyond(canary.ttft, self._slow), _beyond(stable.ttft, self._slow)
            self._ratios["slow"] += _shared(*slow, canary.ttft.total, stable.ttft.total)

    def _settle_slow(self, stable: Counts) -> None:
        """What is slow is said before it is counted."""
        p95_s = stable.ttft.quantile_s(0.95)
        if self._slow is None and p95_s is not None and stable.ttft.total >= _LEAST_FOR_PERCENTILE:
            self._slow = min(bisect_left(BOUNDS_S, p95_s * SLOWER), len(BOUNDS_S) - 1)

    def _against(self) -> str | None:
        """What speaks against the canary with enough weight."""
        stable, canary = self._last[0].since(self._first[0]), self._last[1].since(self._first[1])
        if max(self._ratios["errors"], self._ratios["alone"]) >= self._limit:
            beside = f", of the stable deployment's {stable.errors} of {stable.requests}" if stable.requests else ""
            return f"{canary.errors} of its {canary.requests} requests failed{beside}"
        if self._ratios["slow"] >= self._limit and self._slow is not None:
            slow = _beyond(canary.ttft, self._slow), _beyond(stable.ttft, self._slow)
            return (
                f"{slow[0]} of its {canary.ttft.total} answers began later than {BOUNDS_S[self._slow]:g} s, "
                f"of the stable deployment's {slow[1]} of {stable.ttft.total}"
            )
        return None


def _shared(marked: int, marked_other: int, requests: int, other: int) -> float:
    """The logarithm of the ratio: the mark falls on the canary `ODDS` times as often, or as often as on the other."""
    if not (requests and other):
        return 0.0
    usual = requests / (requests + other)
    bad = ODDS * requests / (ODDS * requests + other)
    return marked * log(bad / usual) + marked_other * log((1 - bad) / (1 - usual))


def _beyond(ttft: LatencyCounts, bucket: int) -> int:
    return sum(ttft.counts[bucket + 1 :])
