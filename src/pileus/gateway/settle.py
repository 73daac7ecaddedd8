"""The end of a request's life in the books: once, whatever the ending, from the tokens that were delivered."""

from pileus.core.clock import Clock
from pileus.core.ports import Ledger, Price, Reservation
from pileus.core.records import GenerationRequest, Principal, UsageRecord
from pileus.gateway.generation import Generation
from pileus.observability.metrics import Metrics, RequestFigures


class Settlement:
    """Reserves before the work and settles after it."""

    def __init__(self, ledger: Ledger, metrics: Metrics, clock: Clock) -> None:
        self._ledger = ledger
        self._metrics = metrics
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
        outcome: str,
    ) -> None:
        """Commit what was delivered and give the rest back."""
        usage, timings = generation.usage, generation.timings
        # Nothing was computed for a request that never reached its first token.
        prompt_tokens = usage.prompt_tokens if generation.ttft_s is not None else 0
        self._ledger.settle(
            reservation,
            UsageRecord(
                request_id=request.id,
                key_id=reservation.principal.key_id,
                tenant=reservation.principal.tenant,
                deployment=generation.deployment,
                lane=request.lane,
                outcome=outcome,
                at=self._clock.wall(),
                prompt_tokens=prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                cost_micros=cost_micros(price, prompt_tokens, usage.completion_tokens),
                queue_s=timings.queue_s,
                prefill_s=timings.prefill_s,
                decode_s=timings.decode_s,
                total_s=timings.total_s,
            ),
        )
        self._metrics.request_finished(
            generation.deployment,
            RequestFigures(
                outcome=outcome,
                prompt_tokens=prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                queue_s=timings.queue_s,
                ttft_s=generation.ttft_s,
                prefill_s=timings.prefill_s,
                decode_s=timings.decode_s,
                gateway_s=timings.gateway_s,
                total_s=timings.total_s,
                intervals=generation.intervals,
            ),
        )


def cost_micros(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    """In micro-units of money, rounded up."""
    return -(-(prompt_tokens * price.prompt + completion_tokens * price.completion) // 1_000_000)
