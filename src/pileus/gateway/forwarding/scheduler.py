"""Scheduling as a further gateway process has it: by asking the owner."""

from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.forwarding.member import OwnerLink
from pileus.gateway.pending import Pending
from pileus.gateway.pulse import Pulse


class ForwardingScheduler:
    """Meets `Scheduler`, by asking the owner. A place in the queue goes with the request's end."""

    def __init__(self, owner: OwnerLink) -> None:
        self.pulse = Pulse()
        self._owner = owner

    async def admit(self, pending: Pending) -> None:
        await self._owner.admit(pending)

    def requeue(self, pending: Pending, lost: ReplicaLink | None) -> None:
        self._owner.requeue(pending)

    def withdraw(self, pending: Pending) -> None:
        """The owner hears of the end."""

    def started(self, pending: Pending) -> None:
        self._owner.started(pending)

    def ended(self, pending: Pending, outcome: str) -> None:
        self._owner.ended(pending, outcome)


class ForwardingSchedulers:
    """Meets `Schedulers`."""

    def __init__(self, owner: OwnerLink) -> None:
        self._owner = owner

    def open(self, deployment: str) -> ForwardingScheduler:
        return ForwardingScheduler(self._owner)

    def close(self, deployment: str) -> None:
        """The owner turns away those that wait."""
