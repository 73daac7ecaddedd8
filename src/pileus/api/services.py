"""What the edge needs from below, put together by bootstrap."""

from dataclasses import dataclass

from pileus.config.settings import Settings
from pileus.fleet.deployments import Deployments
from pileus.fleet.directory import Directory
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.scheduler import SchedulingOwner
from pileus.observability.metrics import Metrics
from pileus.observability.series import Series
from pileus.security.audit import AuditLog
from pileus.security.keys import KeyService


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One of each, for as long as the server runs."""

    settings: Settings
    pipeline: Pipeline
    scheduling: SchedulingOwner
    directory: Directory
    deployments: Deployments
    keys: KeyService
    audit: AuditLog
    metrics: Metrics
    series: Series
    version: str
    started_at: float  # wall clock
