"""What is measured of a deployment for scaling."""

from typing import Any, cast

from pileus.gateway.demand import DemandMeter
from pileus.observability.figures import RequestFigures
from pileus.observability.metrics import Metrics
from pileus.scheduling.scaling import Demand


class Asked:
    """Scheduling with one request waiting."""

    def demand(self, deployment: str) -> Demand:
        return Demand(active_s=7.0, waiting=1)


def finished(metrics: Metrics, ttft_s: float) -> None:
    metrics.request_finished("d", RequestFigures(outcome="stop", ttft_s=ttft_s))


def test_late_first_tokens_count_for_ten_readings() -> None:
    metrics = Metrics()
    meter = DemandMeter(cast(Any, Asked()), metrics)
    finished(metrics, 90.0)  # before anything was measured
    assert meter("d") == Demand(active_s=7.0, waiting=1, ttft_s=None)
    finished(metrics, 5.0)
    for _ in range(9):
        ttft_s = meter("d").ttft_s
        assert ttft_s is not None
        assert 3 < ttft_s <= 7
    assert meter("d").ttft_s is None
