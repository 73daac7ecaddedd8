"""From the queue of one deployment to a replica that has room."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from pileus.core.clock import Clock
from pileus.core.errors import Overloaded, Unavailable
from pileus.core.records import Lane
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.failovers import Failovers
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Refusal, Standing
from pileus.scheduling.fairness import work
from pileus.scheduling.lanes import Waiting
from pileus.scheduling.routing import Load, Need, Router

_WORK_MEMORY = 0.95
_NO_START = Refusal("none of its replicas starts", 30.0)
_CLOSED = Refusal("it is not served any more", 30.0)

log = structlog.get_logger(__name__)


class Dispatched(Waiting, Protocol):
    """A request on its way to a replica."""

    @property
    def unfinished(self) -> int:
        """Of its choices."""
        ...

    @property
    def prefix(self) -> tuple[int, ...]:
        """Its prompt's blocks, as `scheduling.prefixes` names them."""
        ...

    @property
    def known_tokens(self) -> int:
        """Of its prompt and of what its unfinished choices have said."""
        ...

    @property
    def replica(self) -> ReplicaLink | None:
        """Where it is, or was at its end."""
        ...

    def on_placed(self, link: ReplicaLink, lane: Lane) -> None:
        """It has its place on that replica, and goes there, in that lane."""

    def on_expired(self) -> None:
        """It waited too long and left the queue."""

    def on_preempted(self) -> ReplicaLink:
        """It leaves the replica that it is on, which is returned, and waits again."""
        ...

    def on_displaced(self, refusal: Overloaded) -> None:
        """It had to leave the queue for others."""


class Dispatcher:
    """One deployment's queue and its replicas. Whatever changes, `pump` moves what can be moved.

    What is asked of a deployment that sleeps, as `starting_s` tells, is held: it waits for as long as the start takes,
    and enters the queue when the queue takes it.
    """

    def __init__(
        self,
        deployment: str,
        queue: AdmissionQueue[Dispatched],
        router: Router,
        clock: Clock,
        *,
        starting_s: Callable[[], float | None] = lambda: None,
        most_held: int = 1024,
        failovers: Failovers | None = None,
    ) -> None:
        self.deployment = deployment
        self._queue = queue
        self._router = router
        self._clock = clock
        self._links: dict[str, ReplicaLink] = {}  # by the router's names
        self._expiry: asyncio.TimerHandle | None = None
        self._expires_at = 0.0
        self._starting_s = starting_s
        self._most_held = most_held
        self._failovers = failovers or Failovers()
        self._held: dict[int, Dispatched] = {}  # by identity, in the order in which they came
        self._closed = False
        self._mean_work = 0.0  # of one request
        self.active_s = clock.monotonic()  # when somebody last asked or was answered

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._held)

    @property
    def foreseen_s(self) -> float:
        """How long what waits would take at the measured rate; 0 while that is not known."""
        return self._queue.rate.wait_s(self.waiting * self._mean_work)

    def standings(self) -> list[Standing]:
        """Who waits, by tenant and lane."""
        return self._queue.standings()

    def on_news(self, news: Mapping[ReplicaLink, bool]) -> None:
        """These replicas changed; true for those that take requests. None at all: what sleeps will not wake."""
        for link, serving in news.items():
            name = _name(link)
            known = self._links.get(name)
            if known is not None and (known is link) != serving:  # it is gone, or was connected to anew
                del self._links[name]
                self._router.remove(name)
            if serving:
                self._join(name, link)
        if not news and not self._links:
            self._turn_away(_NO_START)
        self.pump()

    def _join(self, name: str, link: ReplicaLink) -> None:
        """Know the replica, what it can take on, and how fast it is."""
        now = self._clock.monotonic()
        if name not in self._links:
            self._links[name] = link
            capabilities = link.capabilities
            blocks, size = capabilities.kv_blocks, capabilities.block_size
            self._router.add(name, capabilities.slots, blocks, size, now)
        self._router.update(name, _load(link))
        if link.token_s and self._router.outliers.measured(name, link.step_s, link.token_s[-1], now):
            log.warning("replica_ejected", replica=link.replica, deployment=self.deployment, step_s=link.step_s)
            self._failovers.ejected(self.deployment, link.replica)

    def enqueue(self, item: Dispatched) -> None:
        """Raises `Overloaded` where it may not wait."""
        if self._closed:
            raise Unavailable(f"{self.deployment} is not served any more.", retry_after_s=_CLOSED.retry_after_s)
        self.active_s = self._clock.monotonic()
        if (starting_s := self._starting_s()) is not None:
            self._hold(item, starting_s)
        elif refusal := self._admit(item):
            raise self._overloaded(refusal)
        self.pump()

    def _overloaded(self, refusal: Refusal) -> Overloaded:
        """The refusal as whoever asked is told."""
        wait_s = refusal.retry_after_s
        text = f"{self.deployment} is overloaded: {refusal.reason}. Try again in {wait_s:.0f} s."
        return Overloaded(text, retry_after_s=wait_s)

    def requeue(self, item: Dispatched, lost: ReplicaLink | None = None) -> None:
        """Ahead of all others: its replica died. `lost` is where it was, if it had come so far."""
        self._router.left(id(item))
        if self._closed:
            item.on_displaced(self._overloaded(_CLOSED))
            return
        if lost is not None:
            self._failovers.resumed(self.deployment, lost.replica)
        self._queue.put_back(item, self._clock.monotonic())
        self.pump()

    def withdraw(self, item: Dispatched) -> None:
        """It is not wanted any more; no-op if it does not wait here. What it stood before may fit."""
        if self._held.pop(id(item), None) is None and self._queue.withdraw(item):
            self.pump()

    def started(self, item: Dispatched) -> None:
        """Its replica has computed its prompt."""
        self._router.prefilled(id(item))

    def served(self, item: Dispatched, answer_tokens: int, link: ReplicaLink | None, *, failed: bool) -> None:
        """Learn from a request that ended; on that replica, if it was on one, and whether that one failed it."""
        now = self.active_s = self._clock.monotonic()
        self._router.left(id(item))
        if answer_tokens:
            done = work(item.prompt_tokens, answer_tokens)
            self._mean_work = _WORK_MEMORY * (self._mean_work or done) + (1 - _WORK_MEMORY) * done
        self._queue.served(item, answer_tokens, now)
        if link is not None and self._router.outliers.observe(_name(link), ok=not failed, now=now):
            log.warning("replica_ejected", replica=link.replica, deployment=self.deployment)
            self._failovers.ejected(self.deployment, link.replica)

    def close(self) -> None:
        """The deployment is gone: what waits is turned away, and nothing new may come."""
        self._closed = True
        self._turn_away(_CLOSED)
        while (head := self._queue.head(self._clock.monotonic())) is not None:
            self._queue.withdraw(head)
            head.on_displaced(self._overloaded(_CLOSED))

    def pump(self) -> None:
        """Send the head of the queue wherever it fits, until it does not."""
        if self._links and self._held:
            self._release()
        while self._links and (head := self._queue.head(now := self._clock.monotonic())) is not None:
            need = self._need(head)
            name = self._router.choose(need, now, random.random())  # noqa: S311  # to spread load, not to hide it
            if name is not None:
                self._send(head, need, name, now)
            elif not self._exchange(now):
                break
        self._watch_expiry()

    def _send(self, item: Dispatched, need: Need, name: str, now: float) -> None:
        lane = self._queue.present_lane(item)
        self._queue.take(item, now)
        link = self._links[name]
        self._router.placed(id(item), name, need)
        item.on_placed(link, lane)
        self._router.update(name, _load(link))

    def _exchange(self, now: float) -> bool:
        """Let a tenant that holds many slots give one up to a tenant that holds few. The replica hears of the one that
        leaves first and of the one that comes then, both before its next step."""
        exchange = self._queue.exchange()
        if exchange is None:
            return False
        taker, victim = exchange
        there = victim.replica
        if there is None or self._links.get(_name(there)) is not there:  # it leaves that replica anyway
            return False
        link = victim.on_preempted()
        self._router.left(id(victim))
        self._queue.give_way(victim, now)
        self._send(taker, self._need(taker), _name(link), now)
        return True

    def _admit(self, item: Dispatched) -> Refusal | None:
        """Into the queue, or why not."""
        answer = self._queue.offer(item, self._clock.monotonic(), full=self._router.full)
        if isinstance(answer, Refusal):
            return answer
        for displaced, refusal in answer:
            displaced.on_displaced(self._overloaded(refusal))
        return None

    def _hold(self, item: Dispatched, starting_s: float) -> None:
        if len(self._held) >= self._most_held:
            raise self._overloaded(Refusal("it is starting, and many wait for it already", starting_s))
        self._held[id(item)] = item

    def _release(self) -> None:
        """Move what was held into the queue, as far as that takes it; what could not be in time is told so."""
        while self._held:
            item = next(iter(self._held.values()))
            refusal = self._admit(item)
            if refusal and item.due is None:
                return
            self._held.pop(id(item), None)
            if refusal:
                item.on_displaced(self._overloaded(refusal))

    def _turn_away(self, refusal: Refusal) -> None:
        held, self._held = self._held, {}
        for item in held.values():
            item.on_displaced(self._overloaded(refusal))

    def _need(self, item: Dispatched) -> Need:
        answer = self._queue.lengths.predict(item.max_answer_tokens)
        block_size = next(iter(self._links.values())).capabilities.block_size
        return Need(
            slots=item.unfinished,
            kv_blocks=(item.prompt_tokens + answer * item.unfinished) // block_size + 1,
            prompt_tokens=item.known_tokens,
            prefix=item.prefix,
            urgent=self._queue.present_lane(item) is not Lane.BATCH,
        )

    def _watch_expiry(self) -> None:
        due = self._queue.next_expiry()
        if due is None or (self._expiry is not None and due >= self._expires_at):
            return
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires_at = due
        delay = max(0.0, due - self._clock.monotonic())
        self._expiry = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        for item in self._queue.expire(self._clock.monotonic()):
            item.on_expired()
        self.pump()


def _name(link: ReplicaLink) -> str:
    """A restarted replica is another one: its prefix cache is empty, its failures are forgiven."""
    return f"{link.replica}#{link.epoch}"


def _load(link: ReplicaLink) -> Load:
    free = link.available()
    return Load(free.slots, free.kv_blocks, free.batch_slots, free.batch_kv_blocks)
