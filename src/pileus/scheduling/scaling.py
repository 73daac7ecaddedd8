"""How many replicas a deployment should have: up at once, down slowly.

What this moment asks for follows from three figures, and the largest answer counts: how long a request would wait,
how full the slots are, and how late first tokens come. The deployment then gets the most that was asked for within the
last minutes, as Kubernetes' autoscaler does it (its stabilisation window), so that a gap between two bursts ends no
replica; and none at all once nobody has asked for a while, where that is allowed.
"""

from collections import deque
from enum import StrEnum
from math import ceil

from msgspec import Struct

CALM_S = 120.0  # how long less must have been asked for before replicas go
_FULL = 0.8  # of the slots: beyond it another replica comes
_MOST_GROWTH = 4  # times the replicas that are ready: figures are of the past, and new replicas will change them


class Cause(StrEnum):
    """Why the number of replicas changed."""

    HAND = "hand"  # somebody wanted it so
    WAKE = "wake"  # it slept, and somebody asked for it
    QUEUE = "queue"  # requests would wait too long
    SLOTS = "slots"  # too few were free
    TTFT = "ttft"  # first tokens came too late
    CALM = "calm"  # fewer would have done for a while
    IDLE = "idle"  # nobody asked for it


class Policy(Struct, frozen=True, kw_only=True):
    """Between what, and for what, a deployment is scaled. With equal bounds it stays as it is."""

    min_replicas: int
    max_replicas: int
    idle_s: float = 300.0  # without a request for so long, it may sleep
    target_queue_s: float = 2.0  # a request should not wait longer
    target_ttft_s: float | None = None  # nor longer for its first token (95th percentile), if that is set
    calm_s: float = CALM_S

    def bound(self, replicas: int) -> int:
        return min(max(replicas, self.min_replicas), self.max_replicas)


class Demand(Struct, frozen=True, kw_only=True):
    """What is measured of one deployment."""

    active_s: float  # when somebody last asked for something, in monotonic seconds
    waiting: int = 0  # requests
    foreseen_s: float = 0.0  # how long what waits would take; 0 is unknown
    used_slots: int = 0
    slots: int = 0  # of the replicas that are ready
    ready: int = 0  # replicas
    ttft_s: float | None = None  # 95th percentile of late

    @property
    def busy(self) -> bool:
        return self.waiting > 0 or self.used_slots > 0


class Scaler:
    """One deployment's. Times are monotonic seconds, given by the caller."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, int]] = deque()  # (when, replicas), ever less: what a later one exceeds is gone

    def decide(self, policy: Policy, demand: Demand, replicas: int, now: float) -> int:
        """How many there should be, where there are `replicas` by the last decision (also those still starting)."""
        asked = asked_for(policy, demand, replicas, now)
        if asked == 0:
            self._asked.clear()
            return 0
        if not self._asked:
            self._note(now, replicas)
        self._note(now, asked)
        while self._asked[0][0] <= now - policy.calm_s:
            self._asked.popleft()
        return policy.bound(self._asked[0][1])

    def _note(self, now: float, replicas: int) -> None:
        while self._asked and self._asked[-1][1] <= replicas:
            self._asked.pop()
        self._asked.append((now, replicas))


def asked_for(policy: Policy, demand: Demand, replicas: int, now: float) -> int:
    """What this moment alone asks for."""
    if not demand.busy:
        awake = replicas > 0 and now - demand.active_s < policy.idle_s
        return policy.bound(1 if awake else 0)
    if demand.ready == 0:
        return policy.bound(max(1, replicas))  # it starts; nothing is known yet
    needs = max(_by_queue(policy, demand), _by_slots(demand), _by_ttft(policy, demand))
    return policy.bound(max(1, min(ceil(needs), demand.ready * _MOST_GROWTH)))


def why(policy: Policy, demand: Demand, before: int, after: int) -> Cause:
    """What a decision to have `after` replicas rather than `before` followed from."""
    if after < before:
        return Cause.CALM if after else Cause.IDLE
    if demand.ready == 0:
        return Cause.WAKE
    needs = {
        Cause.QUEUE: _by_queue(policy, demand),
        Cause.SLOTS: _by_slots(demand),
        Cause.TTFT: _by_ttft(policy, demand),
    }
    return max(needs, key=needs.__getitem__)


def _by_queue(policy: Policy, demand: Demand) -> float:
    """As many times the replicas as the wait is too long; at once one more where that is not known yet."""
    if demand.waiting and not demand.foreseen_s:
        return demand.ready + 1
    excess = demand.foreseen_s / policy.target_queue_s
    return demand.ready * excess if excess > 1 else 0


def _by_slots(demand: Demand) -> float:
    per_replica = demand.slots / demand.ready
    return demand.used_slots / (per_replica * _FULL) if per_replica else 0


def _by_ttft(policy: Policy, demand: Demand) -> float:
    if policy.target_ttft_s is None or demand.ttft_s is None or demand.ttft_s <= policy.target_ttft_s:
        return 0
    return demand.ready * demand.ttft_s / policy.target_ttft_s
