"""What the fleet is asked for, and what it tells."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pileus.core.ports import Price
from pileus.core.records import EngineStats, LongTexts
from pileus.fleet.memory import Footprint
from pileus.scheduling.scaling import Policy


class DeploymentInfo(Struct, frozen=True, kw_only=True):
    """A model that this server offers, and under which names."""

    name: str
    model: str
    engine: str
    aliases: tuple[str, ...] = ()
    price: Price = Price()
    long_texts: LongTexts = "refuse"  # of an encoder, where a request does not say it


class ServedAdapter(Struct, frozen=True, kw_only=True):
    """An adapter that a deployment serves as `deployment:name`."""

    name: str
    id: str  # what replicas call it: see `core.ports.AdapterSource`
    artefact: str
    path: str
    tenant: str = ""  # who may use it; empty is everybody


class Target(Struct, frozen=True):
    """What a request's model name stands for."""

    deployment: DeploymentInfo
    adapter: ServedAdapter | None = None

    @property
    def name(self) -> str:
        """As it is on the bill."""
        return self.deployment.name if self.adapter is None else f"{self.deployment.name}:{self.adapter.name}"


class Deployment(Struct, frozen=True, kw_only=True):
    """What shall run: `replicas` processes, each of which reads `spec` (see `core.ports.ReplicaCommand`)."""

    info: DeploymentInfo
    spec: Mapping[str, Any]
    replicas: int = 1  # to begin with; 0 sleeps until the first request
    policy: Policy | None = None  # how it scales by itself; None: it does not
    footprint: Footprint = Footprint()  # of one replica

    def evolve(self, **changes: Any) -> "Deployment":
        return replace(self, **changes)


class ReplicaStatus(Struct, frozen=True, kw_only=True):
    """One replica, as operators see it. The figures are of its present process."""

    id: str  # deployment/number
    state: str
    pid: int | None = None
    epoch: int = 0
    restarts: int = 0
    last_error: str = ""
    stats: EngineStats = EngineStats()
    tokens_per_s: float = 0.0
    step_s: float = 0.0  # mean length of an engine step

    def with_figures(self, stats: EngineStats, tokens_per_s: float, step_s: float) -> "ReplicaStatus":
        return replace(self, stats=stats, tokens_per_s=tokens_per_s, step_s=step_s)


class DeploymentStatus(Struct, frozen=True, kw_only=True):
    """One deployment and its replicas, also those that are leaving."""

    info: DeploymentInfo
    replicas: tuple[ReplicaStatus, ...]
    desired: int = 0  # replicas
    policy: Policy | None = None
