"""Who has had how much: token-weighted fairness between tenants, and rates that are guaranteed to some.

Virtual token counters after Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024, arXiv:2401.00588):
each tenant's counter grows with the tokens that it is served, and whoever waits with the least is served next. A
tenant that comes back after a pause is lifted to the least counter of those that wait, so that nobody saves up a
right to a burst.
"""

from heapq import heappop, heappush

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
