"""What scaling must know of each deployment, measured once a second."""

from collections import defaultdict, deque

from msgspec.structs import replace

from pileus.gateway.scheduler import SchedulingOwner
from pileus.observability.latency import LatencyCounts
from pileus.observability.metrics import Metrics
from pileus.scheduling.scaling import Demand

_READINGS = 10  # over which the time to the first token is taken


class DemandMeter:
    """Call it once a second for each deployment: it remembers the last readings."""

    def __init__(self, owner: SchedulingOwner, metrics: Metrics) -> None:
        self._owner = owner
        self._metrics = metrics
        self._ttft: defaultdict[str, deque[LatencyCounts]] = defaultdict(lambda: deque(maxlen=_READINGS))

    def __call__(self, deployment: str) -> Demand:
        readings = self._ttft[deployment]
        readings.append(self._metrics.deployments[deployment].ttft.copy())
        return replace(self._owner.demand(deployment), ttft_s=readings[-1].since(readings[0]).quantile_s(0.95))
