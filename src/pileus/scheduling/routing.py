"""Which replica takes a request.

The router keeps a snapshot that is pushed to it, and decides by what the request would cost at each replica: the
prefill that stands before its first token there, its own included, less what the replica's prefix cache probably
holds; scaled by how full the replica is (a slow one is full sooner, and for longer). So a shared prefix draws a request
as long as the replica that holds it is not so busy that computing the prefix elsewhere comes first, and a hot prefix
spreads by itself.

Of many replicas only some are looked at: those that hold the prefix, and a few neighbours from a random place on (the
power of several choices; Mitzenmacher, 2001; that neighbours will do: Godfrey, 2008). The caller brings the random
number.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from math import inf

from msgspec import Struct

from pileus.scheduling.following import Prefills
from pileus.scheduling.outliers import Outliers
from pileus.scheduling.prefixes import PrefixIndex

_DRAWN = 12  # replicas that are looked at besides those that hold the prefix
_SLOW_START_S = 10.0
_COLDEST = 0.2  # of its full share, when a replica has just become ready, or comes back from sitting out
_DECODE_WEIGHT = 2.0  # how much a full batch of decoding sequences slows a prefill down
_OWN_WEIGHT = 1.5  # of the request's own prefill, which those that come after it wait for too


class RoutingPolicy(StrEnum):
    """How to choose. Only the first is meant to serve; the others are there to be compared with."""

    COST = "cost"
    LEAST_LOADED = "least_loaded"
    PREFIX = "prefix"
    ROUND_ROBIN = "round_robin"


class Load(Struct, frozen=True):
    """What a replica can take on now, as it says itself."""

    free_slots: int
    free_kv_blocks: int
    batch_slots: int = 0  # held by batch work, which yields to urgent work
    batch_kv_blocks: int = 0


class Need(Struct, frozen=True):
    """What a request takes."""

    slots: int
    kv_blocks: int  # as foretold
    prompt_tokens: int
    prefix: Sequence[int] = ()  # see `prefixes.chain`
    urgent: bool = True


class _Replica:
    __slots__ = ("id", "kv_blocks", "place", "prefills", "ready_at", "rooms", "slots")

    def __init__(self, identity: str, slots: int, kv_blocks: int, ready_at: float, place: int) -> None:
        self.id = identity
        self.slots = slots
        self.kv_blocks = kv_blocks
        self.ready_at = ready_at
        self.prefills = Prefills()
        self.place = place  # in the router's list
        self.take(Load(slots, kv_blocks))

    def take(self, load: Load) -> None:
        """For batch work and for urgent work: free slots, free KV blocks, used share of the scarcer of both."""
        slots, kv_blocks = load.free_slots, load.free_kv_blocks
        mine = urgent = self._room(slots, kv_blocks)
        if load.batch_slots or load.batch_kv_blocks:
            urgent = self._room(slots + load.batch_slots, kv_blocks + load.batch_kv_blocks)
        self.rooms = (mine, urgent)

    def takes(self, need: Need) -> bool:
        """An idle replica takes any request: what it is foretold to need may be more than there is."""
        slots, kv_blocks, _ = self.rooms[need.urgent]
        return (slots >= need.slots and kv_blocks >= need.kv_blocks) or slots >= self.slots

    def _room(self, slots: int, kv_blocks: int) -> tuple[int, int, float]:
        return slots, kv_blocks, 1 - min(slots / self.slots, kv_blocks / self.kv_blocks)


class Router:
    """One deployment's replicas. Times are monotonic seconds, given by the caller; requests are any names of his."""

    def __init__(self, policy: RoutingPolicy = RoutingPolicy.COST) -> None:
        self.outliers = Outliers()
        self.prefixes = PrefixIndex()
        self._policy = policy
        self._by_prefix = policy in (RoutingPolicy.COST, RoutingPolicy.PREFIX)
        self._replicas: dict[str, _Replica] = {}
        self._roomy: dict[str, _Replica] = {}  # those with a slot for urgent work
        self._listed: list[_Replica] = []
        self._prefilling: dict[Hashable, _Replica] = {}  # where the requests are that have not said a token
        self._turn = 0

    def __contains__(self, replica: str) -> bool:
        return replica in self._replicas

    @property
    def full(self) -> bool:
        """Whether no replica has a slot, not even for urgent work."""
        return not self._roomy

    # --- the replicas -----------------------------------------------------------------------------------------------

    def add(self, replica: str, slots: int, kv_blocks: int, block_size: int, now: float) -> None:
        """It takes requests from now on, a few at first."""
        self._replicas[replica] = entry = _Replica(replica, slots, kv_blocks, now, len(self._listed))
        self._listed.append(entry)
        self._roomy[replica] = entry
        self.outliers.add(replica)
        self.prefixes.open(replica, kv_blocks * block_size)

    def remove(self, replica: str) -> None:
        entry = self._replicas.pop(replica)
        self._roomy.pop(replica, None)
        last = self._listed.pop()
        if last is not entry:
            self._listed[entry.place] = last
            last.place = entry.place
        self.outliers.remove(replica)
        self.prefixes.close(replica)

    def update(self, replica: str, load: Load) -> None:
        """What the replica said of itself."""
        entry = self._replicas[replica]
        entry.take(load)
        if load.free_slots + load.batch_slots > 0:
            self._roomy[replica] = entry
        else:
            self._roomy.pop(replica, None)

    # --- the requests -----------------------------------------------------------------------------------------------

    def choose(self, need: Need, now: float, draw: float) -> str | None:
        """The replica for this request, or none while it fits nowhere. `draw` is uniform in [0, 1)."""
        held = self.prefixes.matches(need.prefix) if self._by_prefix else {}
        best = self._best(self._candidates(held, draw), need, held, now)
        if best is None and len(self._listed) > _DRAWN:
            best = self._best(self._roomy.values(), need, held, now)
        return None if best is None else best.id

    def placed(self, request: Hashable, replica: str, need: Need) -> None:
        """The request went there: others that share its beginning may follow."""
        self._turn += 1
        entry = self._prefilling[request] = self._replicas[replica]
        found = self.prefixes.held(need.prefix, replica)
        entry.prefills.begin(request, need.prefix, found, need.prompt_tokens)
        self.prefixes.add(need.prefix, replica)

    def prefilled(self, request: Hashable) -> None:
        """Its first token came."""
        if entry := self._prefilling.pop(request, None):
            entry.prefills.end(request)

    def left(self, request: Hashable) -> None:
        """It ended, or left its replica. If that was before its first token, who followed it is released."""
        if entry := self._prefilling.pop(request, None):
            nobodys = entry.prefills.leave(request)
            if self._replicas.get(entry.id) is entry:
                self.prefixes.discard(nobodys, entry.id)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _candidates(self, held: Mapping[str, int], draw: float) -> Sequence[_Replica]:
        count = len(self._listed)
        if count <= _DRAWN:
            return self._listed
        if self._policy is RoutingPolicy.ROUND_ROBIN:
            return [self._listed[(self._turn + offset) % count] for offset in range(_DRAWN)]
        start = int(draw * count)
        drawn = self._listed[start : start + _DRAWN]
        if len(drawn) < _DRAWN:
            drawn += self._listed[: _DRAWN - len(drawn)]
        return drawn + [self._replicas[replica] for replica in held] if held else drawn

    def _best(self, candidates: Iterable[_Replica], need: Need, held: Mapping[str, int], now: float) -> _Replica | None:
        fitting = [replica for replica in candidates if replica.takes(need)]
        willing = fitting
        if self.outliers.any_out(now):
            willing = [replica for replica in fitting if not self.outliers.out(replica.id, now)] or fitting
        if not willing:
            return None
        if self._policy is RoutingPolicy.COST:
            back = self.outliers if self.outliers.any_out(now - _SLOW_START_S) else None
            return _cheapest(willing, need, held, now, back)
        if self._policy is RoutingPolicy.PREFIX:
            return max(willing, key=lambda replica: (held.get(replica.id, 0), -replica.rooms[need.urgent][2]))
        if self._policy is RoutingPolicy.LEAST_LOADED:
            return min(willing, key=lambda replica: replica.rooms[need.urgent][2])
        count = len(self._listed)
        return min(willing, key=lambda replica: (replica.place - self._turn) % count)


def _cheapest(
    replicas: Iterable[_Replica], need: Need, held: Mapping[str, int], now: float, back: Outliers | None
) -> _Replica | None:
    """By cost, and of equal ones the emptiest. One plain loop: every request goes through it some twenty times. `back`
    knows who has come back of late from sitting out, if anybody."""
    best, least, emptiest = None, inf, inf
    prompt, urgent, warm_since = need.prompt_tokens, need.urgent, now - _SLOW_START_S
    for replica in replicas:
        fullness = replica.rooms[urgent][2]
        prefill = replica.prefills.tokens + _OWN_WEIGHT * max(1, prompt - held.get(replica.id, 0))
        cost = prefill * (1 + _DECODE_WEIGHT * fullness)
        since = replica.ready_at if back is None else max(replica.ready_at, back.back_at(replica.id))
        if since > warm_since:
            cost /= _COLDEST + (1 - _COLDEST) * max(0.0, now - since) / _SLOW_START_S
        if cost < least or (cost == least and fullness < emptiest):
            best, least, emptiest = replica, cost, fullness
    return best
