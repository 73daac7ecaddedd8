"""What waits in one lane, by tenant: the tenant that was served least goes first, and of its requests the most
important, then the oldest."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from pileus.core.records import Lane
from pileus.scheduling.fairness import TokenCounters


class Waiting(Protocol):
    """What scheduling knows of a request in the queue."""

    @property
    def tenant(self) -> str: ...

    @property
    def lane(self) -> Lane: ...

    @property
    def priority(self) -> int:
        """Among the requests of the same tenant; higher goes first."""
        ...

    @property
    def due(self) -> float | None:
        """When it must have begun, in monotonic seconds."""
        ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def choices(self) -> int: ...

    @property
    def max_answer_tokens(self) -> int:
        """Of each choice."""
        ...


_LEAST_STALE = 64  # places of those that left; fewer are not worth clearing away

T = TypeVar("T", bound=Waiting)
Key = tuple[bool, int, int, int]
Weight = Callable[[str], float]  # of a tenant


class Entry(Generic[T]):
    """One request in the queue, and afterwards on a replica until it ends."""

    __slots__ = (
        "answer_tokens",
        "charged",
        "expires",
        "item",
        "key",
        "lane",
        "promised",
        "ran_s",
        "tokens",
        "waits",
        "work",
        "yielded",
    )

    def __init__(
        self, item: T, *, answer_tokens: float, work: float, expires: float, number: int, place: int | None = None
    ) -> None:
        self.item = item
        self.tokens = item.prompt_tokens + item.choices * item.max_answer_tokens  # the worst case
        self.answer_tokens = answer_tokens  # as foretold, over all choices
        self.work = work  # as foretold
        self.expires = expires
        # In its tenant's order; `number` is unique, and `place` is the number that it had when it first came.
        self.key: Key = (item.lane is not Lane.CONTINUOUS, -item.priority, number if place is None else place, number)
        self.charged: LaneQueue[T] | None = None  # where its tenant's counter has it, as foretold: where it waited
        self.promised = False  # its tenant's guarantee was charged too
        self.ran_s = 0.0  # for so long, on replicas that it left
        self.yielded = False  # it gave its slot up to another tenant's work once, which is enough
        self.waits = True  # false once it left the queue, when its places in heaps are stale
        self.lane: LaneQueue[T] | None = None  # where it waits in a fair order, if it does

    def again(self, expires: float, number: int) -> "Entry[T]":
        """The same request at the same place, with a fresh life in the queue."""
        entry = Entry(
            self.item,
            answer_tokens=self.answer_tokens,
            work=self.work,
            expires=expires,
            number=number,
            place=self.key[2],
        )
        entry.charged, entry.promised, entry.yielded = self.charged, self.promised, self.yielded
        entry.ran_s = self.ran_s
        return entry


class LaneQueue(Generic[T]):
    """Entries, fair between tenants. Order costs logarithmic time; shares and room look at all tenants."""

    def __init__(self) -> None:
        self.counters = TokenCounters()
        self.work = 0.0
        self.tenant_work: dict[str, float] = {}
        self._heaps: dict[str, list[tuple[Key, Entry[T]]]] = {}
        self._sizes: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._heaps)

    def __contains__(self, tenant: str) -> bool:
        return tenant in self._heaps

    def add(self, entry: Entry[T]) -> None:
        tenant = entry.item.tenant
        if tenant not in self._heaps:
            self._heaps[tenant], self._sizes[tenant], self.tenant_work[tenant] = [], 0, 0.0
            self.counters.enter(tenant)
        entry.lane = self
        heappush(self._heaps[tenant], (entry.key, entry))
        self._sizes[tenant] += 1
        self.tenant_work[tenant] += entry.work
        self.work += entry.work

    def remove(self, entry: Entry[T]) -> None:
        """`entry.waits` is false by now; its place in the heap is skipped, until such places are cleared away."""
        tenant = entry.item.tenant
        self._sizes[tenant] -= 1
        self.tenant_work[tenant] -= entry.work
        self.work -= entry.work
        if not self._sizes[tenant]:
            del self._heaps[tenant], self._sizes[tenant], self.tenant_work[tenant]
            self.counters.leave(tenant)
        elif len(self._heaps[tenant]) > _LEAST_STALE + 2 * self._sizes[tenant]:
            self._heaps[tenant] = [place for place in self._heaps[tenant] if place[1].waits]
            heapify(self._heaps[tenant])

    def head(self) -> Entry[T] | None:
        """Whose turn it is."""
        tenant = self.counters.next()
        return None if tenant is None else self.first(tenant)

    def first(self, tenant: str) -> Entry[T]:
        """The tenant's next."""
        heap = self._heaps[tenant]
        while not heap[0][1].waits:
            heappop(heap)
        return heap[0][1]

    def spare(self, tenant: str) -> Entry[T]:
        """The one that its tenant can do without most easily."""
        return max((key, entry) for key, entry in self._heaps[tenant] if entry.waits)[1]

    def fair_work(self, entry: Entry[T], weight: Weight) -> float:
        """What is served before it if every tenant with work here is served in proportion to its weight."""
        tenant = entry.item.tenant
        weights = sum(weight(other) for other in self.tenant_work if other != tenant)
        own = self.tenant_work.get(tenant, 0.0)
        return own + (own + entry.work) * weights / weight(tenant)

    def greediest(self, weight: Weight) -> str:
        """The tenant with most work here for its weight."""
        return max(self.tenant_work, key=lambda tenant: self.tenant_work[tenant] / weight(tenant))

    def spare_for(self, entry: Entry[T], weight: Weight) -> Entry[T] | None:
        """What makes room for it: of a tenant that takes more of the lane than its own would."""
        if not self:
            return None
        greediest, tenant = self.greediest(weight), entry.item.tenant
        own = (self.tenant_work.get(tenant, 0.0) + entry.work) / weight(tenant)
        if greediest == tenant or self.tenant_work[greediest] / weight(greediest) <= own:
            return None
        return self.spare(greediest)
