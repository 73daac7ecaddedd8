"""One point a second: differences of counters, over restarts and jumps of the clock."""

import pytest

from pileus.core.records import EngineStats
from pileus.observability.metrics import DeploymentSample, Metrics, ReplicaSample, RequestFigures
from pileus.observability.series import POINTS, Point, Series


class Fleet:
    """Deployments whose replicas say what the test lets them say."""

    def __init__(self) -> None:
        self.waiting = 0
        self.replicas: list[ReplicaSample] = []

    def __call__(self) -> list[DeploymentSample]:
        return [DeploymentSample(deployment="d", waiting=self.waiting, replicas=tuple(self.replicas))]


def replica(name: str = "0", epoch: int = 1, *, up: bool = True, **stats: int) -> ReplicaSample:
    return ReplicaSample(replica=name, up=up, epoch=epoch, stats=EngineStats(**stats))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def fleet(metrics: Metrics) -> Fleet:
    fleet = Fleet()
    metrics.observe_with(fleet)
    return fleet


def taken(series: Series, wall: float, mono: float) -> Point:
    point = series.sample(wall, mono)
    assert point is not None
    return point


def test_the_first_sample_is_only_a_reading(metrics: Metrics) -> None:
    series = Series(metrics)
    assert series.sample(100.0, 0.0) is None
    assert series.points() == []


def test_rates_are_of_the_time_between_two_samples(metrics: Metrics, fleet: Fleet) -> None:
    series = Series(metrics)
    fleet.replicas = [replica(generated_tokens=100)]
    series.sample(100.0, 0.0)
    for ttft in (0.1, 0.1, 0.1, 0.4):
        metrics.request_finished("d", RequestFigures(outcome="stop", ttft_s=ttft, queue_s=0.02))
    metrics.request_refused("overloaded")
    fleet.replicas = [replica(generated_tokens=160)]
    point = taken(series, 102.0, 2.0)
    assert (point.tokens_per_s, point.requests_per_s, point.errors_per_s) == (30.0, 2.0, 0.5)
    assert point.ttft_p50_ms == pytest.approx(100, rel=0.2)
    assert point.ttft_p95_ms == pytest.approx(400, rel=0.3)
    assert point.queue_p50_ms == pytest.approx(20, rel=0.2)


def test_a_second_without_requests_has_no_latencies(metrics: Metrics) -> None:
    series = Series(metrics)
    metrics.request_finished("d", RequestFigures(outcome="stop", ttft_s=0.1, queue_s=0.1))
    series.sample(100.0, 0.0)
    point = taken(series, 101.0, 1.0)
    assert (point.ttft_p50_ms, point.queue_p50_ms, point.prefix_hit_ratio) == (None, None, None)


def test_a_restarted_replica_counts_from_nothing_again(metrics: Metrics, fleet: Fleet) -> None:
    series = Series(metrics)
    fleet.replicas = [replica(epoch=1, generated_tokens=1000)]
    series.sample(100.0, 0.0)
    fleet.replicas = [replica(epoch=2, generated_tokens=5)]
    assert taken(series, 101.0, 1.0).tokens_per_s == 5
    fleet.replicas = []
    assert taken(series, 102.0, 2.0).tokens_per_s == 0


def test_gauges_add_up_over_replicas_that_are_up(metrics: Metrics, fleet: Fleet) -> None:
    series = Series(metrics)
    series.sample(100.0, 0.0)
    fleet.waiting = 3
    fleet.replicas = [
        replica("0", running=2, waiting=1, kv_blocks=10, kv_blocks_used=5, prefix_query_tokens=8, prefix_hit_tokens=2),
        replica("1", running=4, kv_blocks=10, kv_blocks_used=1, prefix_query_tokens=8, prefix_hit_tokens=6),
        replica("2", up=False, running=9, kv_blocks=10, kv_blocks_used=10),
    ]
    point = taken(series, 101.0, 1.0)
    assert (point.running, point.waiting, point.kv_used_ratio, point.prefix_hit_ratio) == (6, 4, 0.3, 0.5)


def test_rates_use_the_clock_that_cannot_jump(metrics: Metrics, fleet: Fleet) -> None:
    series = Series(metrics)
    fleet.replicas = [replica(generated_tokens=0)]
    series.sample(100.0, 0.0)
    fleet.replicas = [replica(generated_tokens=10)]
    assert taken(series, 3700.0, 1.0).tokens_per_s == 10


def test_two_samples_at_the_same_moment_are_one(metrics: Metrics) -> None:
    series = Series(metrics)
    series.sample(100.0, 0.0)
    taken(series, 101.0, 1.0)
    assert series.sample(101.0, 1.0) is None
    assert len(series.points()) == 1


def test_five_minutes_are_kept_and_can_be_read_from_a_time_on(metrics: Metrics) -> None:
    series = Series(metrics)
    for second in range(POINTS + 50):
        series.sample(1000.0 + second, float(second))
    points = series.points()
    assert len(points) == POINTS
    assert [point.t for point in series.points(since=points[-3].t)] == [point.t for point in points[-2:]]
