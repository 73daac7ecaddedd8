"""The exposition parses, says what was reported, and carries the names that dashboards know."""

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pileus.core.records import EngineStats
from pileus.observability.metrics import DeploymentSample, LatencyCounts, Metrics, ReplicaSample, RequestFigures

NAMES = {
    "pileus_time_to_first_token_seconds",
    "pileus_inter_token_latency_seconds",
    "pileus_request_queue_time_seconds",
    "pileus_request_prefill_time_seconds",
    "pileus_request_decode_time_seconds",
    "pileus_gateway_time_seconds",
    "pileus_e2e_request_latency_seconds",
    "pileus_num_requests_running",
    "pileus_num_requests_waiting",
    "pileus_kv_cache_usage_ratio",
    "pileus_prefix_cache_hit_tokens",
    "pileus_prefix_cache_query_tokens",
    "pileus_prompt_tokens",
    "pileus_generation_tokens",
    "pileus_requests",
    "pileus_request_errors",
    "pileus_replica_up",
}


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found


def finished(outcome: str = "stop", error_reason: str | None = None) -> RequestFigures:
    intervals = LatencyCounts()
    for gap in (0.01, 0.02, 0.03):
        intervals.add(gap)
    return RequestFigures(
        outcome=outcome,
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=4,
        queue_s=0.001,
        ttft_s=0.2,
        prefill_s=0.1,
        decode_s=0.06,
        gateway_s=0.0004,
        total_s=0.3,
        intervals=intervals,
        error_reason=error_reason,
    )


def test_every_promised_name_is_there() -> None:
    assert set(families(Metrics())) >= NAMES


def test_a_finished_request_is_counted_once_everywhere() -> None:
    metrics = Metrics()
    metrics.request_finished("d", finished())
    metrics.request_finished("d", finished("cancelled"))
    assert value(metrics, "pileus_requests_total", deployment="d", outcome="stop") == 1
    assert value(metrics, "pileus_requests_total", deployment="d", outcome="cancelled") == 1
    assert value(metrics, "pileus_prompt_tokens_total", deployment="d") == 20
    assert value(metrics, "pileus_cached_prompt_tokens_total", deployment="d") == 8
    assert value(metrics, "pileus_generation_tokens_total", deployment="d") == 8
    assert value(metrics, "pileus_inter_token_latency_seconds_count", deployment="d") == 6
    assert value(metrics, "pileus_time_to_first_token_seconds_sum", deployment="d") == 0.4
    assert value(metrics, "pileus_gateway_time_seconds_bucket", deployment="d", le="0.0003") == 0
    assert value(metrics, "pileus_gateway_time_seconds_bucket", deployment="d", le="0.0005") == 2


def test_times_that_do_not_apply_are_not_counted() -> None:
    metrics = Metrics()
    metrics.request_finished("d", RequestFigures(outcome="refused", total_s=0.1))
    assert value(metrics, "pileus_time_to_first_token_seconds_count", deployment="d") == 0
    assert value(metrics, "pileus_e2e_request_latency_seconds_count", deployment="d") == 1


def test_errors_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.request_refused("invalid_api_key")
    metrics.request_refused("invalid_api_key")
    metrics.request_finished("d", finished("error", error_reason="engine_failed"))
    assert value(metrics, "pileus_request_errors_total", reason="invalid_api_key") == 2
    assert value(metrics, "pileus_request_errors_total", reason="engine_failed") == 1


def test_gauges_are_asked_for_when_they_are_read() -> None:
    metrics = Metrics()
    running = 1

    def source() -> list[DeploymentSample]:
        stats = EngineStats(running=running, kv_blocks=8, kv_blocks_used=2, prefix_query_tokens=9, prefix_hit_tokens=3)
        replica = ReplicaSample(replica="0", up=True, epoch=1, restarts=2, stats=stats)
        return [DeploymentSample(deployment="d", waiting=5, replicas=(replica,))]

    metrics.observe_with(source)
    assert value(metrics, "pileus_num_requests_running", deployment="d", replica="0") == 1
    running = 7
    assert value(metrics, "pileus_num_requests_running", deployment="d", replica="0") == 7
    assert value(metrics, "pileus_num_requests_waiting", deployment="d") == 5
    assert value(metrics, "pileus_kv_cache_usage_ratio", deployment="d", replica="0") == 0.25
    assert value(metrics, "pileus_replica_up", deployment="d", replica="0") == 1
    assert value(metrics, "pileus_replica_restarts_total", deployment="d", replica="0") == 2
    assert value(metrics, "pileus_prefix_cache_hit_tokens_total", deployment="d", replica="0") == 3


def test_a_replica_without_kv_blocks_uses_none() -> None:
    metrics = Metrics()
    metrics.observe_with(lambda: [DeploymentSample(deployment="d", replicas=(ReplicaSample(replica="0", up=False),))])
    assert value(metrics, "pileus_kv_cache_usage_ratio", deployment="d", replica="0") == 0


def test_names_of_deployments_cannot_break_the_format() -> None:
    metrics = Metrics()
    metrics.request_finished('a"b\\c\nd', finished())
    assert value(metrics, "pileus_prompt_tokens_total", deployment='a"b\\c\nd') == 10


def test_two_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.request_refused("overloaded")
    assert not families(second)["pileus_request_errors"].samples
