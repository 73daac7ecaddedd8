"""The counters under the names that the field's dashboards know, as Prometheus metric families."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pileus.observability.figures import DeploymentCounts, DeploymentSample, ReplicaSample
from pileus.observability.latency import LatencyCounts

_HISTOGRAMS: Sequence[tuple[str, str, Callable[[DeploymentCounts], LatencyCounts]]] = (
    ("pileus_time_to_first_token_seconds", "From a request's arrival to its first token.", lambda d: d.ttft),
    ("pileus_inter_token_latency_seconds", "Between two tokens of one request.", lambda d: d.intervals),
    ("pileus_request_queue_time_seconds", "Waiting in the gateway's queue.", lambda d: d.queue),
    ("pileus_request_prefill_time_seconds", "Computing the prompt.", lambda d: d.prefill),
    ("pileus_request_decode_time_seconds", "From the first token to the last.", lambda d: d.decode),
    ("pileus_gateway_time_seconds", "Pileus' own share: neither queue nor engine.", lambda d: d.gateway),
    ("pileus_e2e_request_latency_seconds", "From a request's arrival to its end.", lambda d: d.total),
)
_TOKENS: Sequence[tuple[str, str, Callable[[DeploymentCounts], float]]] = (
    ("pileus_prompt_tokens", "Prompt tokens of settled requests.", lambda d: d.prompt_tokens),
    ("pileus_cached_prompt_tokens", "Prompt tokens that were found in the prefix cache.", lambda d: d.cached_tokens),
    ("pileus_generation_tokens", "Generated tokens of settled requests.", lambda d: d.generated_tokens),
)
_Reading = Callable[[ReplicaSample], float]
_REPLICA_GAUGES: Sequence[tuple[str, str, _Reading]] = (
    ("pileus_replica_up", "1 while the replica can take requests.", lambda r: float(r.up)),
    ("pileus_num_requests_running", "Sequences in the replica's batch.", lambda r: r.stats.running),
    ("pileus_num_requests_preempted", "Sequences on the replica that wait for room.", lambda r: r.stats.waiting),
    (
        "pileus_kv_cache_usage_ratio",
        "KV blocks held by live sequences, as a share of all.",
        lambda r: r.stats.kv_blocks_used / r.stats.kv_blocks if r.stats.kv_blocks else 0.0,
    ),
)
_REPLICA_COUNTERS: Sequence[tuple[str, str, _Reading]] = (
    ("pileus_replica_restarts", "Times that the replica was started again.", lambda r: r.restarts),
    ("pileus_prefix_cache_query_tokens", "Prompt tokens looked up.", lambda r: r.stats.prefix_query_tokens),
    ("pileus_prefix_cache_hit_tokens", "Of these, found.", lambda r: r.stats.prefix_hit_tokens),
    ("pileus_num_preemptions", "Sequences that had to give up their place.", lambda r: r.stats.preemptions),
    ("pileus_engine_steps", "Steps of the engine.", lambda r: r.stats.steps),
    ("pileus_engine_step_seconds", "Time in steps.", lambda r: r.stats.step_s),
    ("pileus_engine_infer_seconds", "Of these, in the model's kernels.", lambda r: r.stats.infer_s),
)


class Exposition(Collector):
    """Turns the counters into families whenever someone reads them."""

    def __init__(
        self,
        deployments: Mapping[str, DeploymentCounts],
        errors: Mapping[str, int],
        observe: Callable[[], Sequence[DeploymentSample]],
    ) -> None:
        self._deployments = deployments
        self._errors = errors
        self._observe = observe

    def collect(self) -> Iterator[Metric]:
        yield from _served(self._deployments)
        errors = CounterMetricFamily("pileus_request_errors", "Requests that ended with an error.", labels=["reason"])
        for reason, count in self._errors.items():
            errors.add_metric([reason], count)
        yield errors
        yield from _state(self._observe())


def _served(deployments: Mapping[str, DeploymentCounts]) -> Iterator[Metric]:
    for name, text, pick in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=["deployment"])
        for deployment, counts in deployments.items():
            latency = pick(counts)
            buckets = [(str(bound) if bound < inf else "+Inf", upto) for bound, upto in latency.cumulative()]
            histogram.add_metric([deployment], buckets, sum_value=latency.sum_s)
        yield histogram
    for name, text, read in _TOKENS:
        tokens = CounterMetricFamily(name, text, labels=["deployment"])
        for deployment, counts in deployments.items():
            tokens.add_metric([deployment], read(counts))
        yield tokens
    requests = CounterMetricFamily("pileus_requests", "Settled requests.", labels=["deployment", "outcome"])
    for deployment, counts in deployments.items():
        for outcome, count in counts.outcomes.items():
            requests.add_metric([deployment, outcome], count)
    yield requests


def _state(samples: Sequence[DeploymentSample]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "pileus_num_requests_waiting", "Requests in the gateway's queue.", labels=["deployment"]
    )
    for sample in samples:
        waiting.add_metric([sample.deployment], sample.waiting)
    yield waiting
    for family, readings in ((GaugeMetricFamily, _REPLICA_GAUGES), (CounterMetricFamily, _REPLICA_COUNTERS)):
        for name, text, read in readings:
            metric = family(name, text, labels=["deployment", "replica"])
            for sample in samples:
                for replica in sample.replicas:
                    metric.add_metric([sample.deployment, replica.replica], read(replica))
            yield metric
