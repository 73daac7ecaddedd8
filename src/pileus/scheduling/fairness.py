"""Who has had how much: token-weighted fairness between tenants, and rates that are guaranteed to some.

Virtual token counters after Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024, arXiv:2401.00588):
each tenant's counter grows with the tokens that it is served, and whoever waits with the least is served next. A
tenant that comes back after a pause is lifted to the least counter of those that wait, so that nobody saves up a
right to a burst.
"""

from collections.abc import Container
from heapq import heappop, heappush
from operator import itemgetter

from msgspec import Struct

OUTPUT_WEIGHT = 4.0  # a generated token takes about as much of a replica as four that are prefilled
_BURST_S = 5.0  # what a guaranteed rate may leave unused and still claim


def work(prompt_tokens: int, answer_tokens: float) -> float:
    """What serving this takes, in tokens of a prompt."""
    return prompt_tokens + OUTPUT_WEIGHT * answer_tokens


class TokenCounters:
    """One virtual counter per tenant that waits or was served of late. Bounded by the tenants that wait."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._order: list[tuple[float, str]] = []  # a heap; entries whose counter has changed since are stale
        self._floor = 0.0  # the least counter that anybody who waits has had

    def enter(self, tenant: str) -> None:
        """It has something waiting now."""
        if tenant in self._waiting:
            return
        self._waiting.add(tenant)
        self._set(tenant, max(self._counters.get(tenant, 0.0), self._least()))

    def leave(self, tenant: str) -> None:
        """It has nothing waiting any more."""
        self._floor = self._least()
        self._waiting.discard(tenant)
        if not self._waiting:
            self._floor = max(self._floor, self._counters.get(tenant, 0.0))
        self._forget()

    def charge(self, tenant: str, amount: float, weight: float = 1.0) -> None:
        """It was served so much work; less than nothing corrects a prediction that was too high."""
        self._set(tenant, max(0.0, self._counters.get(tenant, self._floor) + amount / weight))

    def next(self) -> str | None:
        """Who waits with the least counter."""
        while self._order:
            counter, tenant = self._order[0]
            if tenant in self._waiting and self._counters[tenant] == counter:
                return tenant
            heappop(self._order)
        return None

    def _least(self) -> float:
        tenant = self.next()
        return self._floor if tenant is None else max(self._floor, self._counters[tenant])

    def _set(self, tenant: str, counter: float) -> None:
        self._counters[tenant] = counter
        if tenant in self._waiting:
            heappush(self._order, (counter, tenant))

    def _forget(self) -> None:
        """Counters at or below the floor are what a newcomer gets anyway."""
        if len(self._counters) > 64 + 2 * len(self._waiting):
            self._counters = {
                tenant: counter
                for tenant, counter in self._counters.items()
                if tenant in self._waiting or counter > self._floor
            }


class Guarantee(Struct):
    """A reserved rate as a token bucket: what a tenant does not use fills it, up to a short burst; others are lent the
    rest. Times are monotonic seconds, amounts are tokens of answers."""

    tokens_per_s: float
    level: float = 0.0
    at: float | None = None

    def holds(self, now: float) -> bool:
        """Whether the tenant has not had what it was promised."""
        if self.at is None:
            self.level = self.tokens_per_s * _BURST_S
        else:
            self.level = min(self.tokens_per_s * _BURST_S, self.level + (now - self.at) * self.tokens_per_s)
        self.at = now
        return self.level > 0

    @property
    def owed_s(self) -> float:
        """For how long at its rate it has not had what it was promised, by the last `holds`."""
        return self.level / self.tokens_per_s

    def spend(self, tokens: float) -> None:
        """Tokens that it was served; less than nothing corrects a prediction."""
        self.level -= tokens


class Guarantees:
    """The guaranteed rates of tenants that have used theirs. `tokens_per_s` is what a tenant is entitled to now."""

    def __init__(self) -> None:
        self._known: dict[str, Guarantee] = {}  # those that were used last come last

    def holds(self, tenant: str, tokens_per_s: float, now: float) -> bool:
        """Whether the tenant has a rate, and has not had what it was promised."""
        guarantee = self._of(tenant, tokens_per_s)
        return guarantee is not None and guarantee.holds(now)

    def owed(self, now: float, among: Container[str]) -> list[str]:
        """Tenants that have not had what they were promised, who has missed it for longest first."""
        waiting = [(tenant, guarantee) for tenant, guarantee in self._known.items() if tenant in among]
        owed = [(-guarantee.owed_s, tenant) for tenant, guarantee in waiting if guarantee.holds(now)]
        return [tenant for _, tenant in sorted(owed, key=itemgetter(0))]

    def spend(self, tenant: str, tokens_per_s: float, tokens: float) -> None:
        """Tokens that it was served; less than nothing corrects a prediction."""
        if guarantee := self._of(tenant, tokens_per_s):
            guarantee.spend(tokens)
            self._known[tenant] = self._known.pop(tenant)

    def _of(self, tenant: str, tokens_per_s: float) -> Guarantee | None:
        known = self._known.get(tenant)
        if known is None or known.tokens_per_s != tokens_per_s:
            self._known.pop(tenant, None)
            if tokens_per_s == 0:
                return None
            known = self._known[tenant] = Guarantee(tokens_per_s)
        return known


class Share(Struct, frozen=True):
    """What a tenant is entitled to: its weight among others, and a rate of answer tokens in the continuous lane."""

    weight: float = 1.0
    tokens_per_s: float = 0.0


EVERYONE = Share()
