"""The scheduling of every deployment that this process owns: each has a queue, a router and its place in the books."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from pileus.config.settings import Queue
from pileus.core.clock import Clock
from pileus.core.errors import EngineFailed, PileusError
from pileus.core.ports import Price, Reservation
from pileus.core.records import Principal
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.directory import Directory
from pileus.gateway.dispatch import Dispatched, Dispatcher
from pileus.gateway.failovers import Failovers
from pileus.gateway.pending import Pending, Scheduler
from pileus.gateway.pulse import Pulse
from pileus.gateway.records import Ending
from pileus.gateway.settle import Settlement, ending_of
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds, Standing
from pileus.scheduling.fairness import Share
from pileus.scheduling.routing import Router, RoutingPolicy
from pileus.scheduling.scaling import Demand


class Schedulers(Protocol):
    """One `Scheduler` for each deployment."""

    def open(self, deployment: str) -> Scheduler:
        """Begin to take requests for a deployment of the directory, or one that is about to be."""
        ...

    def close(self, deployment: str) -> None:
        """Take no more requests for it, and turn away those that wait. What runs goes on."""


class Admitted(Struct, frozen=True):
    """What is owed for a request that runs or waits."""

    reservation: Reservation
    price: Price


class OwnScheduler:
    """Meets `Scheduler`, in the process that decides. Requests of other gateway processes come in by `enter`."""

    def __init__(self, dispatcher: Dispatcher, settlement: Settlement, directory: Directory) -> None:
        self.dispatcher = dispatcher
        self.pulse = Pulse()
        self._settlement = settlement
        self._directory = directory
        self._admitted: dict[int, Admitted] = {}  # by the generation's identity

    async def admit(self, pending: Pending) -> None:
        admitted = self.reserve(pending, pending.principal)
        self._admitted[id(pending)] = admitted
        try:
            self.dispatcher.enqueue(pending)
        except PileusError as error:
            error.settled = True
            self._settle(pending, error.code)
            raise

    def requeue(self, pending: Pending, lost: ReplicaLink | None) -> None:
        self.dispatcher.requeue(pending, lost)

    def withdraw(self, pending: Pending) -> None:
        self.dispatcher.withdraw(pending)

    def started(self, pending: Pending) -> None:
        self.dispatcher.started(pending)

    def ended(self, pending: Pending, outcome: str) -> None:
        ending = self._settle(pending, outcome)
        self.served(pending, ending, pending.replica)

    def reserve(self, item: Dispatched, principal: Principal) -> Admitted:
        """Its worst case; wakes what sleeps. Raises `QuotaExceeded`."""
        name = self.dispatcher.deployment
        price = self._directory.info(name).price
        answer_tokens = item.max_answer_tokens * item.choices
        reservation = self._settlement.reserve(principal, price, item.prompt_tokens, answer_tokens)
        self._directory.wake(name)
        return Admitted(reservation, price)

    def settle(self, admitted: Admitted, ending: Ending) -> None:
        """Enter a request's end into the books."""
        self._settlement.settle(admitted.reservation, admitted.price, ending)

    def served(self, item: Dispatched, ending: Ending, link: ReplicaLink | None) -> None:
        """Let scheduling learn from a request that ended, on that replica if it was on one."""
        failed = ending.outcome == EngineFailed.code
        self.dispatcher.served(item, ending.figures.completion_tokens, link, failed=failed)

    def _settle(self, pending: Pending, outcome: str) -> Ending:
        ending = ending_of(pending, outcome)
        self.settle(self._admitted.pop(id(pending)), ending)
        return ending


class SchedulingOwner:
    """Meets `Schedulers` in the process that owns the fleet."""

    def __init__(
        self,
        queue: Queue,
        policy: RoutingPolicy,
        directory: Directory,
        settlement: Settlement,
        shares: Mapping[str, Share],
        clock: Clock,
        failovers: Failovers | None = None,
    ) -> None:
        self._queue = queue
        self._policy = policy
        self._directory = directory
        self._settlement = settlement
        self._shares = shares
        self._clock = clock
        self._failovers = failovers
        self._schedulers: dict[str, OwnScheduler] = {}

    def open(self, deployment: str) -> OwnScheduler:
        queue = self._queue
        bounds = Bounds(queue.max_requests, queue.max_tokens, queue.max_wait_s, queue.max_foreseen_s)
        dispatcher = Dispatcher(
            deployment,
            AdmissionQueue(bounds, self._shares),
            Router(self._policy),
            self._clock,
            starting_s=lambda: self._directory.starting_s(deployment),
            most_held=queue.max_requests,
            failovers=self._failovers,
        )
        self._directory.subscribe(deployment, dispatcher.on_news)
        scheduler = self._schedulers[deployment] = OwnScheduler(dispatcher, self._settlement, self._directory)
        return scheduler

    def close(self, deployment: str) -> None:
        self._schedulers.pop(deployment).dispatcher.close()

    def scheduler(self, deployment: str) -> OwnScheduler | None:
        """None where it is not open."""
        return self._schedulers.get(deployment)

    def waiting(self, deployment: str) -> int:
        """Requests in the queue of a deployment."""
        scheduler = self._schedulers.get(deployment)
        return 0 if scheduler is None else scheduler.dispatcher.waiting

    def standings(self, deployment: str) -> list[Standing]:
        """Who waits there, by tenant and lane."""
        scheduler = self._schedulers.get(deployment)
        return [] if scheduler is None else scheduler.dispatcher.standings()

    def demand(self, deployment: str) -> Demand:
        """What scaling must know of it, but for the latencies."""
        dispatcher = self._schedulers[deployment].dispatcher
        ready = self._directory.ready(deployment)
        slots = sum(link.capabilities.slots for link in ready)
        return Demand(
            active_s=dispatcher.active_s,
            waiting=dispatcher.waiting,
            foreseen_s=dispatcher.foreseen_s,
            used_slots=slots - sum(link.available().slots for link in ready),
            slots=slots,
            ready=len(ready),
        )
