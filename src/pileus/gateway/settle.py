"""The end of a request's life in the books: once, whatever the ending, from the tokens that were delivered."""

from pileus.core.clock import Clock
from pileus.core.ports import Ledger, Price, Reservation
from pileus.core.records import GenerationRequest, Principal, UsageRecord
from pileus.gateway.generation import Generation
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

    def settle(
        self,
        reservation: Reservation,
        price: Price,
        request: GenerationRequest,
        generation: Generation,
        ending: str,
    ) -> None:
        """Commit what was delivered and give the rest back. `ending` is a finish reason or an error's code."""
        figures = _figures(generation, ending)
        at = self._clock.wall()
        self._ledger.settle(
            reservation,
            UsageRecord(
                request_id=request.id,
                key_id=reservation.principal.key_id,
                tenant=reservation.principal.tenant,
                deployment=generation.deployment,
                lane=request.lane,
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
        self._metrics.request_finished(generation.deployment, figures)
        self._tracer.record(
            RequestTrace(
                request_id=request.id,
                operation="chat" if request.prompt is None else "text_completion",
                requested_model=request.model,
                deployment=generation.deployment,
                ended_at=at,
                figures=figures,
                finish_reasons=(ending,),
                traceparent=request.traceparent,
            )
        )


def _figures(generation: Generation, ending: str) -> RequestFigures:
    usage, timings = generation.usage, generation.timings
    began = generation.ttft_s is not None  # before its first token, nothing is owed
    return RequestFigures(
        outcome=ending if ending in _GOOD else "error",
        prompt_tokens=usage.prompt_tokens if began else 0,
        cached_tokens=usage.cached_tokens if began else 0,
        completion_tokens=usage.completion_tokens,
        queue_s=timings.queue_s,
        ttft_s=generation.ttft_s,
        prefill_s=timings.prefill_s if began else None,
        decode_s=timings.decode_s if began else None,
        gateway_s=timings.gateway_s,
        total_s=timings.total_s,
        intervals=generation.intervals,
        error_reason=None if ending in _GOOD else ending,
    )
