"""Counters of everything that was served, cheap enough for every request, and gauges that are asked for when read.

A request reports once, at its settlement, with `RequestFigures`. Gauges of replicas and queues are pulled from the
sources given to `observe_with`. Nothing here is global; `render` speaks Prometheus' text format.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from pileus.observability.exposition import Exposition
from pileus.observability.figures import DeploymentCounts, DeploymentSample, ReplicaSample, RequestFigures
from pileus.observability.latency import LatencyCounts

__all__ = ["DeploymentSample", "LatencyCounts", "Metrics", "ReplicaSample", "RequestFigures"]


Source = Callable[[], Iterable[DeploymentSample]]


class Metrics:
    """All counters of this process. For one thread, the event loop's."""

    def __init__(self) -> None:
        self.deployments: defaultdict[str, DeploymentCounts] = defaultdict(DeploymentCounts)
        self.errors: Counter[str] = Counter()  # by reason
        self._sources: list[Source] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Exposition(self.deployments, self.errors, self.observe))
        ProcessCollector(registry=self._registry)

    def request_finished(self, deployment: str, figures: RequestFigures) -> None:
        """Count a request that was accepted, whatever its ending. `deployment` is one that exists, never what a
        caller wrote: each name stays for good."""
        self.deployments[deployment].add(figures)
        if figures.error_reason is not None:
            self.errors[figures.error_reason] += 1

    def request_refused(self, reason: str) -> None:
        """Count a request that was answered with an error before any work. `reason` is a `PileusError.code`."""
        self.errors[reason] += 1

    def observe_with(self, source: Source) -> None:
        """Ask `source` for the state of deployments whenever metrics are read."""
        self._sources.append(source)

    def observe(self) -> list[DeploymentSample]:
        """The state of every deployment, now."""
        return [sample for source in self._sources for sample in source()]

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
