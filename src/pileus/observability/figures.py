"""What is reported and counted: by a request at its end, by a deployment when asked."""

from collections import Counter

from msgspec import Struct

from pileus.core.records import EngineStats
from pileus.observability.latency import LatencyCounts


class RequestFigures(Struct, kw_only=True):
    """What one finished request says of itself. A time that does not apply (nothing was generated) is `None`."""

    outcome: str  # stop, length, cancelled, error, refused
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queue_s: float | None = None
    ttft_s: float | None = None  # from the request's arrival to its first token
    prefill_s: float | None = None
    decode_s: float | None = None
    gateway_s: float | None = None  # Pileus' own share of the total
    total_s: float | None = None
    intervals: LatencyCounts | None = None  # between tokens, counted by the gateway as they came
    error_reason: str | None = None  # a `PileusError.code`


class ReplicaSample(Struct, frozen=True, kw_only=True):
    """One replica as it is now. Its counters begin anew with each epoch."""

    replica: str
    up: bool
    epoch: int = 0
    restarts: int = 0
    stats: EngineStats = EngineStats()


class DeploymentSample(Struct, frozen=True, kw_only=True):
    """One deployment as it is now."""

    deployment: str
    waiting: int = 0  # requests in the gateway's queue
    replicas: tuple[ReplicaSample, ...] = ()


class DeploymentCounts:
    """What one deployment has served since the start."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.queue = LatencyCounts()
        self.ttft = LatencyCounts()
        self.intervals = LatencyCounts()
        self.prefill = LatencyCounts()
        self.decode = LatencyCounts()
        self.gateway = LatencyCounts()
        self.total = LatencyCounts()

    def add(self, figures: RequestFigures) -> None:
        self.outcomes[figures.outcome] += 1
        self.prompt_tokens += figures.prompt_tokens
        self.cached_tokens += figures.cached_tokens
        self.generated_tokens += figures.completion_tokens
        if figures.queue_s is not None:
            self.queue.add(figures.queue_s)
        if figures.ttft_s is not None:
            self.ttft.add(figures.ttft_s)
        if figures.prefill_s is not None:
            self.prefill.add(figures.prefill_s)
        if figures.decode_s is not None:
            self.decode.add(figures.decode_s)
        if figures.gateway_s is not None:
            self.gateway.add(figures.gateway_s)
        if figures.total_s is not None:
            self.total.add(figures.total_s)
        if figures.intervals is not None:
            self.intervals.merge(figures.intervals)
