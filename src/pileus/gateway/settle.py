"""The end of a request's life in the books: once, whatever the ending, from the tokens that were delivered."""

from pileus.core.clock import Clock
from pileus.core.ports import Ledger, Price, Reservation
from pileus.core.records import Principal, UsageRecord
from pileus.gateway.pending import Pending
from pileus.gateway.records import Ending
from pileus.observability.figures import RequestFigures
from pileus.observability.metrics import Metrics
from pileus.observability.tracing import RequestTrace, Tracer
from pileus.security.ledger import cost_micros

_GOOD = frozenset({"stop", "length", "cancelled"})


class Settlement:
    """Reserves before the work and settles after it."""

    def __init__(self, ledger: Ledger, metrics: Metrics, tracer: Tracer, clock: Clock) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock

    def reserve(self, principal: Principal, price: Price, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Raises `QuotaExceeded`."""
        return self._ledger.reserve(principal, price, prompt_tokens, completion_tokens)

    def settle(self, reservation: Reservation, price: Price, ending: Ending) -> None:
        """Commit what was delivered and give the rest back."""
        figures = ending.figures
        at = self._clock.wall()
        self._ledger.settle(
            reservation,
            UsageRecord(
                request_id=ending.request_id,
                key_id=reservation.principal.key_id,
                tenant=reservation.principal.tenant,
                deployment=ending.model,
                lane=ending.lane,
                outcome=figures.outcome,
                at=at,
                prompt_tokens=figures.prompt_tokens,
                cached_tokens=figures.cached_tokens,
                completion_tokens=figures.completion_tokens,
                cost_micros=cost_micros(price, figures.prompt_tokens, figures.completion_tokens),
                queue_s=figures.queue_s or 0.0,
                prefill_s=figures.prefill_s or 0.0,
                decode_s=figures.decode_s or 0.0,
                total_s=figures.total_s or 0.0,
            ),
        )
        self._metrics.request_finished(ending.deployment, figures)
        self._tracer.record(
            RequestTrace(
                request_id=ending.request_id,
                operation=ending.operation,
                requested_model=ending.requested_model,
                deployment=ending.deployment,
                ended_at=at,
                figures=figures,
                finish_reasons=(ending.outcome,),
                traceparent=ending.traceparent,
            )
        )


def ending_of(pending: Pending, outcome: str) -> Ending:
    """What is to be settled. `outcome` is a finish reason or an error's code."""
    request = pending.request
    return Ending(
        request_id=request.id,
        operation=request.operation,
        requested_model=request.model,
        deployment=pending.deployment,
        lane=request.lane,
        outcome=outcome,
        figures=_figures(pending, outcome),
        traceparent=request.traceparent,
        adapter=pending.adapter,
    )


def _figures(pending: Pending, outcome: str) -> RequestFigures:
    usage, timings, stopwatch = pending.usage, pending.timings, pending.stopwatch
    began = stopwatch.ttft_s is not None  # before its first token, nothing is owed
    return RequestFigures(
        outcome=outcome if outcome in _GOOD else "error",
        prompt_tokens=usage.prompt_tokens if began else 0,
        cached_tokens=usage.cached_tokens if began else 0,
        completion_tokens=usage.completion_tokens,
        queue_s=timings.queue_s,
        ttft_s=stopwatch.ttft_s,
        prefill_s=timings.prefill_s if began else None,
        decode_s=timings.decode_s if began else None,
        gateway_s=timings.gateway_s,
        total_s=timings.total_s,
        intervals=stopwatch.intervals,
        error_reason=None if outcome in _GOOD else outcome,
    )
