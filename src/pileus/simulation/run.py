"""A run: requests meet the queue, the router and the engines, in virtual time.

It does what the gateway's dispatcher does, with the same queue and the same router: the head of the queue goes where
the router says, until it fits nowhere; a tenant that holds many slots gives one up to one that holds few; who dies with
a replica goes on elsewhere from what was said. Events are handled in the order of their times, and all chance
comes from one seed, so a run can be repeated exactly.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import cast

from msgspec import Struct

from pileus.core.records import Lane
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds, Refusal
from pileus.scheduling.fairness import Share
from pileus.scheduling.routing import Need, Router, RoutingPolicy
from pileus.simulation.calibration import Calibration
from pileus.simulation.engine import EngineModel
from pileus.simulation.outcomes import Outcomes
from pileus.simulation.request import Ending, Request

_MOST_DEATHS = 2  # as in the gateway: a request that was there at so many is not tried again
_READY_S = -3600.0  # the first replicas have been ready for long


class Cluster(Struct, frozen=True, kw_only=True):
    """One deployment: alike replicas behind one queue."""

    replicas: int
    engine: Calibration
    bounds: Bounds
    shares: Mapping[str, Share] = {}


class Kill(Struct, frozen=True):
    """So many replicas die at that second of the run, and come back after a while."""

    replicas: int
    at: float
    back_after_s: float = 30.0


class _Replica:
    __slots__ = ("engine", "name", "since", "wake")

    def __init__(self, name: str, engine: EngineModel, since: float) -> None:
        self.name = name
        self.engine = engine
        self.since = since
        self.wake = -1  # number of the event that is its next; those before are void


class Simulation:
    """One policy's run; used once."""

    def __init__(self, cluster: Cluster, policy: RoutingPolicy, seed: int, kills: Iterable[Kill] = ()) -> None:
        self._cluster = cluster
        self._queue: AdmissionQueue[Request] = AdmissionQueue(cluster.bounds, cluster.shares)
        self._router = Router(policy)
        self._chance = Random(seed)  # noqa: S311  # chance that can be repeated is the point
        self._now = 0.0
        self._outcomes = Outcomes()
        self._open: dict[Request, _Replica | None] = {}  # what has come and not ended, and where it is
        self._replicas: dict[str, _Replica] = {}
        self._names = count()
        self._numbers = count()
        self._events: list[tuple[float, int, _Replica | Callable[[float], None]]] = []
        self._stuck: Request | None = None  # the head of the queue when it last fitted nowhere
        self._watches_expiry = False
        for _ in range(cluster.replicas):
            self._start(0.0, ready_at=_READY_S)
        for kill in kills:
            self._at(kill.at, partial(self._kill, kill))

    def run(self, requests: Iterable[Request]) -> Outcomes:
        """Let each request arrive at its time (they come in that order) and follow it to its end."""
        events = self._events
        for request in requests:
            arrives = request.at + self._cluster.engine.request_s
            while events and events[0][0] < arrives:
                self._next()
            self._arrive(request, arrives)
        while events and self._open:
            self._next()
        return self._close()

    # --- events -----------------------------------------------------------------------------------------------------

    def _at(self, at: float, act: "_Replica | Callable[[float], None]") -> int:
        number = next(self._numbers)
        heappush(self._events, (at, number, act))
        return number

    def _next(self) -> None:
        now, number, act = heappop(self._events)
        self._now = now
        if not isinstance(act, _Replica):
            act(now)
        elif act.wake == number:
            self._advance(act, now)

    def _arrive(self, request: Request, now: float) -> None:
        self._now = now
        self._open[request] = None
        if request.prompt_tokens + request.answer_tokens > self._cluster.engine.longest:
            self._end(request, Ending.TOO_LONG, now)
            return
        answer = self._queue.offer(request, now, full=self._router.full)
        if isinstance(answer, Refusal):
            self._end(request, Ending.REFUSED, now)
            return
        for displaced, _ in answer:
            self._end(displaced, Ending.DISPLACED, now)
        # What fitted nowhere still does not: only who has come before it, or is owed another's slot, can change that.
        if self._stuck is None or self._queue.head(now) is not self._stuck or self._exchange(now):
            self._pump(now)
        self._watch_expiry()

    def _advance(self, replica: _Replica, now: float) -> None:
        """Engine steps have ended."""
        ended = replica.engine.advance(now)
        self._schedule(replica)
        for request in replica.engine.started:
            self._router.prefilled(request)
        replica.engine.started.clear()
        for request in ended:
            self._queue.served(request, request.answer_tokens, now)
            self._router.outliers.observe(replica.name, ok=True, now=now)
            self._end(request, Ending.FINISHED, now)
        self._router.update(replica.name, replica.engine.load())
        if ended:
            self._pump(now)

    def _end(self, request: Request, ending: Ending, now: float) -> None:
        del self._open[request]
        self._outcomes.add(request, ending, now)

    def _schedule(self, replica: _Replica) -> None:
        at = replica.engine.wakes_at
        replica.wake = -1 if at == inf else self._at(at, replica)

    # --- the dispatcher ---------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Send the head of the queue wherever it fits, until it does not."""
        queue, router = self._queue, self._router
        self._stuck = None
        while self._replicas and (head := queue.head(now)) is not None:
            need = self._need(head)
            name = router.choose(need, now, self._chance.random())
            if name is not None:
                self._send(head, need, self._replicas[name], now)
            elif not self._exchange(now):
                self._stuck = head
                break

    def _send(self, request: Request, need: Need, replica: _Replica, now: float) -> None:
        self._queue.take(request, now)
        self._router.placed(request, replica.name, need)
        self._open[request] = replica
        replica.engine.submit(request, now)
        self._schedule(replica)
        self._router.update(replica.name, replica.engine.load())

    def _exchange(self, now: float) -> bool:
        """Let a tenant that holds many slots give one up to a tenant that holds few."""
        exchange = self._queue.exchange()
        if exchange is None:
            return False
        taker, victim = exchange
        replica = self._open[victim]
        assert replica is not None
        replica.engine.withdraw(victim, now)
        self._router.left(victim)
        self._open[victim] = None
        self._queue.give_way(victim, now)
        self._outcomes.exchanged += 1
        self._send(taker, self._need(taker), replica, now)
        return True

    def _need(self, request: Request) -> Need:
        answer = self._queue.lengths.predict(request.max_answer_tokens)
        return Need(
            slots=1,
            kv_blocks=(request.prompt_tokens + answer) // self._cluster.engine.block_size + 1,
            prompt_tokens=request.prompt_tokens + request.emitted,
            prefix=request.links,
            urgent=self._queue.present_lane(request) is not Lane.BATCH,
        )

    def _watch_expiry(self) -> None:
        if not self._watches_expiry and (due := self._queue.next_expiry()) is not None:
            self._watches_expiry = True
            self._at(due, self._expire)

    def _expire(self, now: float) -> None:
        self._watches_expiry = False
        for request in self._queue.expire(now):
            self._end(request, Ending.EXPIRED, now)
        self._watch_expiry()

    # --- the fleet --------------------------------------------------------------------------------------------------

    def _start(self, now: float, ready_at: float) -> None:
        # The router only compares names. Numbers hash alike in every process, which text does not, and it keeps names
        # in sets: with text, a run could not be repeated.
        name = cast(str, next(self._names))
        engine = self._cluster.engine
        self._replicas[name] = _Replica(name, EngineModel(engine), now)
        self._router.add(name, engine.slots, engine.kv_blocks, engine.block_size, ready_at)

    def _kill(self, kill: Kill, now: float) -> None:
        names = self._chance.sample(list(self._replicas), min(kill.replicas, len(self._replicas)))
        lost = [request for name in names for request in self._stop(name, now)]
        for request in lost:
            self._router.left(request)
            request.deaths += 1
            self._open[request] = None
            if request.deaths < _MOST_DEATHS:
                self._outcomes.resumed += 1
                self._queue.put_back(request, now)
            else:
                self._queue.served(request, request.emitted, now)
                self._end(request, Ending.FAILED, now)
        if kill.back_after_s < inf:
            self._at(now + kill.back_after_s, partial(self._come_back, len(names)))
        self._pump(now)
        self._watch_expiry()

    def _come_back(self, replicas: int, now: float) -> None:
        for _ in range(replicas):
            self._start(now, ready_at=now)
        self._pump(now)

    def _stop(self, name: str, now: float) -> list[Request]:
        """The requests that were on it."""
        replica = self._replicas.pop(name)
        self._router.remove(name)
        replica.wake = -1
        lost = replica.engine.lose(now)
        self._book(replica, now)
        return lost

    def _book(self, replica: _Replica, now: float) -> None:
        """Its life goes to the books."""
        self._outcomes.replica_s += now - replica.since
        self._outcomes.busy_s += replica.engine.busy_s
        self._outcomes.preemptions += replica.engine.preemptions

    def _close(self) -> Outcomes:
        """Nothing will happen any more: whoever still waits does so in vain. The replicas go to the books."""
        for request in list(self._open):
            self._end(request, Ending.UNSERVED, self._now)
        for replica in self._replicas.values():
            self._book(replica, self._now)
        return self._outcomes
