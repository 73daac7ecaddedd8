"""Which replica takes a request.

The router keeps a snapshot that is pushed to it, and decides by what the request would cost at each replica: the
prefill that stands before its first token there, its own included, less what the replica's prefix cache probably
holds; scaled by how full the replica is (a slow one is full sooner, and for longer). So a shared prefix draws a request
as long as the replica that holds it is not so busy that computing the prefix elsewhere comes first, and a hot prefix
spreads by itself.

Of many replicas only some are looked at: those that hold the prefix, and a few drawn at random (the power of several
choices; Mitzenmacher, 2001). The caller brings the random number.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from pileus.scheduling.outliers import Outliers
from pileus.scheduling.prefixes import PrefixIndex

_DRAWN = 12  # replicas that are looked at besides those that hold the prefix
_MOST_HOLDERS = 8
_SLOW_START_S = 10.0
_COLDEST = 0.2  # of its full share, when a replica has just become ready, or comes back from sitting out
_DECODE_WEIGHT = 2.0  # how much a full batch of decoding sequences slows a prefill down
_STRIDE = 0.6180339887498949  # of the golden ratio: draws spread evenly


class RoutingPolicy(StrEnum):
    """How to choose. Only the first is meant to serve; the others are there to be compared with."""

    COST = "cost"
    LEAST_LOADED = "least_loaded"
    PREFIX = "prefix"
    ROUND_ROBIN = "round_robin"


class Load(Struct, frozen=True):
    """What a replica can take on now, and what it has before it."""

    free_slots: int
    free_kv_blocks: int
    batch_slots: int = 0  # held by batch work, which yields to urgent work
    batch_kv_blocks: int = 0
    prefill_tokens: int = 0  # of prompts that were sent there and have not said their first token


class Need(Struct, frozen=True):
    """What a request takes."""

    slots: int
    kv_blocks: int  # as foretold
    prompt_tokens: int
    prefix: Sequence[int] = ()  # see `prefixes.chain`
    urgent: bool = True


class _Replica:
    __slots__ = ("id", "kv_blocks", "load", "place", "ready_at", "slots")

    def __init__(self, identity: str, slots: int, kv_blocks: int, ready_at: float, place: int) -> None:
        self.id = identity
        self.slots = slots
        self.kv_blocks = kv_blocks
        self.ready_at = ready_at
        self.load = Load(slots, kv_blocks)
        self.place = place  # in the router's list

    def takes(self, need: Need) -> bool:
        """An idle replica takes any request: what it is foretold to need may be more than there is."""
        slots, kv_blocks = self.free(need.urgent)
        return slots >= self.slots or (slots >= need.slots and kv_blocks >= need.kv_blocks)

    def free(self, urgent: bool) -> tuple[int, int]:
        """Slots and KV blocks for such work."""
        load = self.load
        if not urgent:
            return load.free_slots, load.free_kv_blocks
        return load.free_slots + load.batch_slots, load.free_kv_blocks + load.batch_kv_blocks

    def fullness(self, urgent: bool) -> float:
        """Used share of its scarcer resource."""
        slots, kv_blocks = self.free(urgent)
        return 1 - min(slots / self.slots, kv_blocks / self.kv_blocks)


class Router:
    """One deployment's replicas. Times are monotonic seconds, given by the caller."""

    def __init__(self, policy: RoutingPolicy = RoutingPolicy.COST) -> None:
        self.outliers = Outliers()
        self.prefixes = PrefixIndex()
        self._policy = policy
        self._replicas: dict[str, _Replica] = {}
        self._roomy: dict[str, _Replica] = {}  # those with a slot for urgent work
        self._listed: list[_Replica] = []
        self._turn = 0

    def __contains__(self, replica: str) -> bool:
        return replica in self._replicas

    def add(self, replica: str, slots: int, kv_blocks: int, now: float) -> None:
        """It takes requests from now on, a few at first."""
        self._replicas[replica] = entry = _Replica(replica, slots, kv_blocks, now, len(self._listed))
        self._listed.append(entry)
        self._roomy[replica] = entry
        self.outliers.add(replica)

    def remove(self, replica: str) -> None:
        entry = self._replicas.pop(replica)
        self._roomy.pop(replica, None)
        last = self._listed.pop()
        if last is not entry:
            self._listed[entry.place] = last
            last.place = entry.place
        self.outliers.remove(replica)
        self.prefixes.forget(replica)

    def update(self, replica: str, load: Load) -> None:
        """What the replica said of itself."""
        entry = self._replicas[replica]
        entry.load = load
        if load.free_slots + load.batch_slots > 0:
            self._roomy[replica] = entry
        else:
            self._roomy.pop(replica, None)

    def choose(self, need: Need, now: float, draw: float) -> str | None:
        """The replica for this request, or none while it fits nowhere. `draw` is uniform in [0, 1)."""
        held = self.prefixes.matches(need.prefix) if need.prefix else {}
        best = self._best(self._candidates(held, draw), need, held, now)
        if best is None and len(self._listed) > _DRAWN:
            best = self._best(self._roomy.values(), need, held, now)
        return None if best is None else best.id

    def placed(self, replica: str, need: Need) -> None:
        """The request went there: others that share its beginning may follow."""
        self._turn += 1
        if need.prefix:
            self.prefixes.add(need.prefix, replica)

    def _candidates(self, held: dict[str, int], draw: float) -> Sequence[_Replica]:
        count = len(self._listed)
        if count <= _DRAWN:
            return self._listed
        if self._policy is RoutingPolicy.ROUND_ROBIN:
            return [self._listed[(self._turn + offset) % count] for offset in range(_DRAWN)]
        drawn = {int((draw + step * _STRIDE) % 1.0 * count) for step in range(_DRAWN)}
        candidates = [self._listed[place] for place in drawn]
        holders = sorted(held, key=held.__getitem__, reverse=True)[:_MOST_HOLDERS]
        return candidates + [self._replicas[replica] for replica in holders if replica in self._replicas]

    def _best(self, candidates: Iterable[_Replica], need: Need, held: dict[str, int], now: float) -> _Replica | None:
        fitting = [replica for replica in candidates if replica.takes(need)]
        willing = [replica for replica in fitting if not self.outliers.out(replica.id, now)] or fitting
        if not willing:
            return None
        if self._policy is RoutingPolicy.COST:
            return min(willing, key=lambda replica: self._cost(replica, need, held.get(replica.id, 0), now))
        if self._policy is RoutingPolicy.PREFIX:
            return max(willing, key=lambda replica: (held.get(replica.id, 0), -replica.fullness(need.urgent)))
        if self._policy is RoutingPolicy.LEAST_LOADED:
            return min(willing, key=lambda replica: replica.fullness(need.urgent))
        count = len(self._listed)
        return min(willing, key=lambda replica: (replica.place - self._turn) % count)

    def _cost(self, replica: _Replica, need: Need, held_tokens: int, now: float) -> tuple[float, float]:
        load = replica.load
        prefill = load.prefill_tokens + max(1, need.prompt_tokens - held_tokens)
        back_s = max(0.0, now - max(replica.ready_at, self.outliers.back_at(replica.id)))
        warmth = min(1.0, _COLDEST + (1 - _COLDEST) * back_s / _SLOW_START_S)
        fullness = replica.fullness(need.urgent)
        return prefill * (1 + _DECODE_WEIGHT * fullness) / warmth, fullness
