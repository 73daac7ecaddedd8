"""Who holds which slots with urgent work, and who gives one up when a tenant that has less of them waits.

Admission is fair over time, but slots are held for as long as an answer lasts: without this a tenant that asks now and
then would wait for the end of somebody's answer each time. Whoever yields goes on later from its emitted tokens.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from pileus.scheduling.lanes import Entry, Waiting

T = TypeVar("T", bound=Waiting)


class Occupancy(Generic[T]):
    """Urgent entries that run, by tenant."""

    def __init__(self) -> None:
        self._yielders: dict[str, dict[int, Entry[T]]] = {}  # by the entry's identity, in order of dispatch
        self._slots: dict[str, int] = {}

    def add(self, entry: Entry[T]) -> None:
        """What is promised to its tenant holds its slots, and never yields them."""
        tenant = entry.item.tenant
        self._slots[tenant] = self._slots.get(tenant, 0) + entry.item.choices
        if not entry.promised:
            self._yielders.setdefault(tenant, {})[id(entry)] = entry

    def remove(self, entry: Entry[T]) -> None:
        tenant = entry.item.tenant
        self._slots[tenant] -= entry.item.choices
        if not self._slots[tenant]:
            del self._slots[tenant]
        if not entry.promised:
            del self._yielders[tenant][id(entry)]
            if not self._yielders[tenant]:
                del self._yielders[tenant]

    def slots(self, tenant: str) -> int:
        """Those that the tenant holds."""
        return self._slots.get(tenant, 0)

    def yielding(self, item: T, weight: Callable[[str], float]) -> Entry[T] | None:
        """What should yield to the item: of the tenant with the most slots for its weight, the latest that has not
        yielded before. None unless that tenant still has at least as much as the item's afterwards."""
        tenants = [tenant for tenant in self._yielders if tenant != item.tenant]
        if not tenants:
            return None
        tenant = max(tenants, key=lambda other: self._slots[other] / weight(other))
        mine = (self.slots(item.tenant) + item.choices) / weight(item.tenant)
        for entry in reversed(self._yielders[tenant].values()):
            left = (self._slots[tenant] - entry.item.choices) / weight(tenant)
            if not entry.yielded and entry.item.choices >= item.choices:
                return entry if left >= mine else None
        return None
