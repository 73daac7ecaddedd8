"""A scheduler over one dispatcher, without books: it remembers how each generation ended."""

from pileus.core.errors import EngineFailed, Overloaded
from pileus.core.records import Principal
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.dispatch import Dispatcher
from pileus.gateway.generation import Generation
from pileus.gateway.pulse import Pulse


class Unbilled:
    """Meets `gateway.generation.Scheduler`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.pulse = Pulse()
        self.endings: list[str] = []

    def begin(self, generation: Generation, timeout_s: float) -> None:
        """As the pipeline does. Raises `Overloaded`."""
        try:
            self.dispatcher.enqueue(generation)
        except Overloaded as refusal:
            raise generation.explained(refusal) from None
        generation.watch_deadline(timeout_s)

    async def admit(self, generation: Generation) -> None:
        self.dispatcher.enqueue(generation)

    def requeue(self, generation: Generation, lost: ReplicaLink | None) -> None:
        self.dispatcher.requeue(generation, lost)

    def withdraw(self, generation: Generation) -> None:
        self.dispatcher.withdraw(generation)

    def started(self, generation: Generation) -> None:
        self.dispatcher.started(generation)

    def ended(self, generation: Generation, outcome: str) -> None:
        self.endings.append(outcome)
        used, failed = generation.usage.completion_tokens, outcome == EngineFailed.code
        self.dispatcher.served(generation, used, generation.replica, failed=failed)


def principal(tenant: str) -> Principal:
    """Somebody of this tenant."""
    return Principal(f"key_{tenant}", tenant, "user", frozenset())
