"""A request that another gateway process holds, as it stands in the owner's queue."""

from pileus.core.errors import Overloaded
from pileus.core.records import Lane, Principal
from pileus.engines.replica.client import ReplicaLink, needs_of
from pileus.engines.replica.loans import Loan
from pileus.gateway.forwarding import wire
from pileus.gateway.forwarding.channel import Channel
from pileus.gateway.records import Ending
from pileus.gateway.scheduler import Admitted, OwnScheduler
from pileus.observability.figures import RequestFigures


class Forwarded:
    """A request that another gateway process holds. Meets `Dispatched`."""

    def __init__(
        self, channel: "Channel[wire.FromGateway]", asked: wire.Admit, principal: Principal, scheduler: OwnScheduler
    ) -> None:
        self.asked = asked
        self.tenant = principal.tenant
        self.turn = 0
        self.link: ReplicaLink | None = None  # where it is, or was at its end
        self.loan: Loan | None = None
        self.scheduler = scheduler
        self.admitted: Admitted = scheduler.reserve(self, principal)
        self._channel = channel
        self._emitted: tuple[int, ...] = (0,) * asked.choices

    @property
    def lane(self) -> Lane:
        return self.asked.lane

    @property
    def priority(self) -> int:
        return self.asked.priority

    @property
    def due(self) -> float | None:
        return self.asked.due

    @property
    def prompt_tokens(self) -> int:
        return self.asked.prompt_tokens

    @property
    def choices(self) -> int:
        return self.asked.choices

    @property
    def max_answer_tokens(self) -> int:
        return self.asked.max_answer_tokens

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.asked.prefix

    @property
    def unfinished(self) -> int:
        return len(self._emitted)

    @property
    def known_tokens(self) -> int:
        return self.prompt_tokens + sum(self._emitted)

    @property
    def replica(self) -> ReplicaLink | None:
        return self.link

    def on_placed(self, link: ReplicaLink, lane: Lane) -> None:
        self.turn += 1
        self.link = link
        needs = needs_of(self.prompt_tokens, self._emitted, link.capabilities.block_size)
        self.loan = link.lend(needs)
        self._channel.send(wire.Placed(self.asked.number, self.turn, link.replica, link.epoch, lane))

    def on_preempted(self) -> ReplicaLink:
        assert self.link is not None
        link = self.link
        self._channel.send(wire.Preempt(self.asked.number, self.turn))
        self.leave()
        return link

    def on_expired(self) -> None:
        self._channel.send(wire.Expired(self.asked.number))

    def on_displaced(self, refusal: Overloaded) -> None:
        self._channel.send(wire.Displaced(self.asked.number, refusal.code, refusal.message, refusal.retry_after_s))

    def lost_place(self, emitted: tuple[int, ...]) -> None:
        """Its replica was lost, after its unfinished choices had said so many tokens each."""
        self._emitted = emitted
        self.leave()

    def leave(self) -> None:
        """It is on no replica."""
        if self.loan is not None:
            self.loan.end()
        self.loan = self.link = None

    def ending(self, outcome: str, figures: RequestFigures) -> Ending:
        asked = self.asked
        return Ending(
            request_id=asked.request_id,
            operation=asked.operation,
            requested_model=asked.requested_model,
            deployment=asked.deployment,
            lane=asked.lane,
            outcome=outcome,
            figures=figures,
            traceparent=asked.traceparent,
            adapter=asked.adapter,
        )
