"""What the pipeline works out, and hands to the edge and to the books."""

from msgspec import Struct

from pileus.core.records import FinishReason, GenerationRequest, Lane, Principal, SamplingParams
from pileus.fleet.records import ServedAdapter
from pileus.observability.figures import RequestFigures


class Work(Struct, frozen=True):
    """What the pipeline worked out before admission."""

    request: GenerationRequest
    principal: Principal
    deployment: str
    prompt: tuple[int, ...]
    params: SamplingParams
    salt: bytes
    prefix: tuple[int, ...]  # the prompt's blocks, as `scheduling.prefixes` names them
    adapter: ServedAdapter | None = None


class TokenText(Struct, frozen=True):
    """One delivered token with its log probability and the alternatives that were asked for."""

    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


class Delta(Struct, frozen=True):
    """What became certain of one choice since the last delta. The last one of a choice carries `finish_reason`."""

    choice: int
    text: str
    tokens: int
    logprobs: tuple[TokenText, ...] | None = None
    finish_reason: FinishReason | None = None


class Usage(Struct, frozen=True):
    """Tokens of one request, over all its choices."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Timings(Struct, frozen=True):
    """Where the time of one request went, in seconds. `gateway_s` is what is left of `total_s` after the engine's
    own account (its wait, prefill and decode) and the queue."""

    queue_s: float
    prefill_s: float
    decode_s: float
    gateway_s: float
    total_s: float


class Ending(Struct, frozen=True):
    """What the books are told of a request that ended."""

    request_id: str
    operation: str  # chat, text_completion, or an encoder's
    requested_model: str
    deployment: str
    lane: Lane
    outcome: str  # a finish reason or an error's code
    figures: RequestFigures
    traceparent: str | None = None
    adapter: str = ""  # its name, if it was one

    @property
    def model(self) -> str:
        """What was used, as it is on the bill."""
        return f"{self.deployment}:{self.adapter}" if self.adapter else self.deployment
