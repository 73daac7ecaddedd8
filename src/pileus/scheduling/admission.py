"""The queue in front of a deployment: what waits, waits here, in bounds and in a fair order, and is refused at once
beyond them.

Two lanes wait apart: urgent work (on-demand and continuous) and batch. Urgent work goes first; batch work joins it
shortly before its deadline, so that it cannot starve. In a lane the tenant that was served least goes first (see
`fairness`); a tenant with a guaranteed rate that was not met goes before all others. A full queue makes room for a
tenant that uses less of it, at the cost of the one that uses most.
"""

from collections import deque
from collections.abc import Mapping
from itertools import count
from math import inf
from typing import Generic, TypeVar

from pileus.core.records import Lane
from pileus.scheduling.bounds import Bounds, Refusal, Standing
from pileus.scheduling.capacity import AnswerLength, ServiceRate
from pileus.scheduling.deadlines import Deadlines
from pileus.scheduling.endings import Endings
from pileus.scheduling.fairness import EVERYONE, Guarantees, Share, work
from pileus.scheduling.lanes import Entry, LaneQueue, Waiting
from pileus.scheduling.occupancy import Occupancy
from pileus.scheduling.returns import Returns

_HASTE_S = 60.0  # so long before its deadline batch work becomes urgent

T = TypeVar("T", bound=Waiting)


class AdmissionQueue(Generic[T]):
    """Times are monotonic seconds, given by the caller. `shares` are looked up at each decision."""

    def __init__(self, bounds: Bounds, shares: Mapping[str, Share] | None = None) -> None:
        self.lengths = AnswerLength()
        self.rate = ServiceRate()
        self.tokens = 0  # waiting, as the worst case
        self._bounds = bounds
        self._shares = {} if shares is None else shares
        self._urgent: LaneQueue[T] = LaneQueue()
        self._batch: LaneQueue[T] = LaneQueue()
        self._returned: deque[Entry[T]] = deque()  # urgent work that was admitted before: it goes first
        self._waiting: dict[int, Entry[T]] = {}  # by the item's identity, as the next
        self._running: dict[int, Entry[T]] = {}
        self._occupancy: Occupancy[T] = Occupancy()  # of what runs and is urgent
        self._running_urgent, self._running_batch = Endings(), Endings()
        self._returns = Returns()
        self._guarantees = Guarantees()
        self._expiry: Deadlines[T] = Deadlines()
        self._haste: Deadlines[T] = Deadlines()  # when batch work becomes urgent
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def standings(self) -> list[Standing]:
        """Who waits, by tenant and lane."""
        counts: dict[tuple[str, Lane], tuple[int, int]] = {}
        for entry in self._waiting.values():
            key = (entry.item.tenant, entry.item.lane)
            requests, tokens = counts.get(key, (0, 0))
            counts[key] = (requests + 1, tokens + entry.tokens)
        return [Standing(tenant, lane, *count) for (tenant, lane), count in sorted(counts.items())]

    # --- in ---------------------------------------------------------------------------------------------------------

    def offer(self, item: T, now: float, *, full: bool = False) -> Refusal | list[tuple[T, Refusal]]:
        """Queue the item, and return those that had to leave for it; or say why it may not wait. `full`: no replica has
        a slot for it now."""
        entry = self._entry(item, now)
        lane = self._batch if item.lane is Lane.BATCH else self._urgent
        if refusal := self._hopeless(entry, lane, now, full=full):
            return refusal
        displaced: list[Entry[T]] = []
        while self._is_full(entry):
            victim = self._victim(entry, lane)
            if victim is None:
                self._undo(displaced)
                return self._refusal(entry, f"{len(self)} requests are waiting already", now)
            self._remove(victim)
            displaced.append(victim)
        lane.add(entry)
        self._note(entry)
        reason = "the queue is full, and others use less of it"
        return [(victim.item, self._refusal(victim, reason, now)) for victim in displaced]

    def _undo(self, displaced: list[Entry[T]]) -> None:
        """Those that left in vain come back to where they were."""
        for entry in displaced:
            assert entry.lane is not None
            again = entry.again(entry.expires, next(self._numbers))
            entry.lane.add(again)
            self._note(again)

    def put_back(self, item: T, now: float) -> None:
        """Queue an item again that was taken and lost its replica: urgent work goes ahead of all others."""
        entry = self._leave_replica(item, now)
        if item.lane is Lane.BATCH:
            self._batch.add(entry)
        else:
            self._returned.append(entry)
        self._note(entry)

    def exchange(self) -> tuple[T, T] | None:
        """Where no slot is free: an urgent item of the tenant that has least for its weight, and the running item that
        should give up its slot to it."""
        waiting = [entry.item for entry in (self._urgent.first(tenant) for tenant in self._urgent.tenant_work)]
        if not waiting:
            return None
        poorest = min(waiting, key=lambda item: self._occupancy.slots(item.tenant) / self._weight(item.tenant))
        victim = self._occupancy.yielding(poorest, self._weight)
        return None if victim is None else (poorest, victim.item)

    def give_way(self, item: T, now: float) -> None:
        """A running item yields: it waits again, as the first of its tenant's."""
        entry = self._leave_replica(item, now)
        entry.yielded = True
        self._urgent.add(entry)
        self._note(entry)

    # --- out --------------------------------------------------------------------------------------------------------

    def head(self, now: float) -> T | None:
        """Whose turn it is."""
        entry = self._next(now)
        return None if entry is None else entry.item

    def present_lane(self, item: T) -> Lane:
        """Of what waits: its own, but that batch work whose deadline is near is on-demand work."""
        hastened = item.lane is Lane.BATCH and self._waiting[id(item)].lane is not self._batch
        return Lane.ON_DEMAND if hastened else item.lane

    def take(self, item: T, now: float) -> None:
        """It leaves the queue to be served."""
        entry = self._waiting[id(item)]
        if entry.charged is None:
            entry.charged = entry.lane
            entry.promised = entry is self._promised(now)
            self._charge(entry, entry.work, entry.answer_tokens)
        self._remove(entry)
        self._running[id(item)] = entry
        self._endings(item).begin(id(item), entry.work, entry.answer_tokens, now, entry.ran_s)
        if item.lane is not Lane.BATCH:
            self._occupancy.add(entry)

    def withdraw(self, item: T) -> bool:
        """Remove the item wherever it stands; false if it does not wait."""
        entry = self._waiting.get(id(item))
        if entry is not None:
            self._remove(entry)
        return entry is not None

    def expire(self, now: float) -> list[T]:
        """Remove and return what has waited too long."""
        expired = []
        while (entry := self._expiry.due(now)) is not None:
            self._remove(entry)
            expired.append(entry.item)
        return expired

    def next_expiry(self) -> float | None:
        """When `expire` will next have something to return."""
        return self._expiry.next()

    def served(self, item: T, answer_tokens: int, now: float) -> None:
        """Learn from an item that was taken and has ended, with this many tokens over all its choices."""
        entry = self._running.pop(id(item), None)
        if entry is None:
            return
        if item.lane is not Lane.BATCH:
            self._occupancy.remove(entry)
        self._learn_rate(now)
        self._endings(item).end(id(item), answer_tokens, now)
        done = work(item.prompt_tokens, answer_tokens)
        self._charge(entry, done - entry.work, answer_tokens - entry.answer_tokens)
        self.lengths.observe(answer_tokens / item.choices)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _endings(self, item: T) -> Endings:
        return self._running_batch if item.lane is Lane.BATCH else self._running_urgent

    def _learn_rate(self, now: float) -> None:
        """Where something waits, what runs is all that can; where that is urgent, batch work does not count."""
        if not self._waiting:
            return
        per_s = self._running_urgent.work_per_s
        if not (self._urgent or self._returned):
            per_s += self._running_batch.work_per_s
        if per_s:
            self.rate.observe(per_s, now)

    def _leave_replica(self, item: T, now: float) -> Entry[T]:
        """What runs as what may wait again."""
        entry = self._running.pop(id(item))
        if item.lane is not Lane.BATCH:
            self._occupancy.remove(entry)
        entry.ran_s = self._endings(item).leave(id(item), now)
        return entry.again(self._expires(item, now), next(self._numbers))

    def _entry(self, item: T, now: float) -> Entry[T]:
        answer_tokens = float(item.choices * self.lengths.predict(item.max_answer_tokens))
        return Entry(
            item,
            answer_tokens=answer_tokens,
            work=work(item.prompt_tokens, answer_tokens),
            expires=self._expires(item, now),
            number=next(self._numbers),
        )

    def _expires(self, item: T, now: float) -> float:
        longest = inf if item.lane is Lane.BATCH else now + self._bounds.max_wait_s
        return longest if item.due is None else min(longest, item.due)

    def _note(self, entry: Entry[T]) -> None:
        """Remember what now waits in a lane or among the returned."""
        self._waiting[id(entry.item)] = entry
        self.tokens += entry.tokens
        if entry.expires < inf:
            self._expiry.add(entry.expires, entry, len(self))
        if entry.lane is self._batch and entry.item.due is not None:
            self._haste.add(entry.item.due - _HASTE_S, entry, len(self))

    def _remove(self, entry: Entry[T]) -> None:
        entry.waits = False
        del self._waiting[id(entry.item)]
        self.tokens -= entry.tokens
        if entry.lane is None:
            self._returned.remove(entry)
        else:
            entry.lane.remove(entry)

    def _next(self, now: float) -> Entry[T] | None:
        if self._returned:
            return self._returned[0]
        self._hasten(now)
        return self._promised(now) or self._urgent.head() or self._batch.head()

    def _hasten(self, now: float) -> None:
        """Batch work whose deadline is near becomes urgent."""
        while (entry := self._haste.due(now)) is not None:
            self._remove(entry)
            urgent = entry.again(entry.expires, next(self._numbers))
            self._urgent.add(urgent)
            self._note(urgent)

    def _promised(self, now: float) -> Entry[T] | None:
        """The next of the tenant that has longest not had its guaranteed rate: all get some of it where there is not
        enough for all."""
        for tenant in self._guarantees.owed(now, self._urgent.tenant_work):
            entry = self._urgent.first(tenant)
            if entry.item.lane is Lane.CONTINUOUS:
                return entry
        return None

    def _charge(self, entry: Entry[T], amount: float, answer_tokens: float) -> None:
        tenant = entry.item.tenant
        assert entry.charged is not None
        entry.charged.counters.charge(tenant, amount, self._weight(tenant))
        if entry.promised:
            self._guarantees.spend(tenant, self._share(tenant).tokens_per_s, answer_tokens)

    def _share(self, tenant: str) -> Share:
        return self._shares.get(tenant, EVERYONE)

    def _weight(self, tenant: str) -> float:
        return self._share(tenant).weight

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _hopeless(self, entry: Entry[T], lane: LaneQueue[T], now: float, *, full: bool) -> Refusal | None:
        """Whether it would wait longer than it can, as things are."""
        limit = inf if lane is self._batch else self._bounds.max_foreseen_s
        if entry.item.due is not None:
            limit = min(limit, entry.item.due - now)
        if limit == inf or self._is_owed(entry, now):
            return None
        before = self._urgent.work + (self._batch.work if lane is self._batch else 0.0)
        if not full and 0 <= self.rate.wait_s(before) <= limit:
            return None
        if full and limit >= 0 and self._may_take_over(entry):
            return None
        before = min(before, (self._urgent.work if lane is self._batch else 0.0) + lane.fair_work(entry, self._weight))
        wait_s = self.rate.wait_s(before)
        if full:
            wait_s = max(wait_s, self._running_urgent.wait_s(int(before / max(1.0, entry.work)), now))
        if wait_s <= limit:
            return None
        reason = f"it would wait about {wait_s:.1f} s, and {max(limit, 0):.1f} s is all it can"
        return self._refusal(entry, reason, now, wait_s - limit)

    def _is_owed(self, entry: Entry[T], now: float) -> bool:
        """Whether its tenant has not had its guaranteed rate."""
        tenant = entry.item.tenant
        rate = self._share(tenant).tokens_per_s
        return entry.item.lane is Lane.CONTINUOUS and self._guarantees.holds(tenant, rate, now)

    def _may_take_over(self, entry: Entry[T]) -> bool:
        """Whether somebody who has more would give up a slot to it."""
        return self._occupancy.yielding(entry.item, self._weight) is not None

    def _is_full(self, entry: Entry[T]) -> bool:
        if len(self) >= self._bounds.max_requests:
            return True
        return bool(self._waiting) and self.tokens + entry.tokens > self._bounds.max_tokens

    def _victim(self, entry: Entry[T], lane: LaneQueue[T]) -> Entry[T] | None:
        """Who makes room for it: batch work for urgent work, else who takes more of the lane than it would."""
        if lane is self._urgent and self._batch:
            return self._batch.spare(self._batch.greediest(self._weight))
        return lane.spare_for(entry, self._weight)

    def _refusal(self, entry: Entry[T], reason: str, now: float, wait_s: float = 0.0) -> Refusal:
        """It may come back when it has a chance, and not all at once with others."""
        tenant, takes_s = entry.item.tenant, self.rate.wait_s(entry.work)
        retry_after_s = self._returns.after_s(tenant, self._weight(tenant), max(wait_s, takes_s), takes_s, now)
        return Refusal(reason, retry_after_s)
