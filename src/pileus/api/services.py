"""What the edge needs from below, put together by bootstrap."""

from dataclasses import dataclass
from typing import Protocol

from pileus.background.service import BackgroundService
from pileus.batch.service import BatchService
from pileus.config.settings import Settings
from pileus.core.ports import RefusalSink
from pileus.evaluation.judging import Judge
from pileus.evaluation.promotion import Promotions
from pileus.files.service import FileService
from pileus.fleet.adapters import Adapters
from pileus.fleet.deployments import Deployments
from pileus.fleet.directory import Directory
from pileus.fleet.timeline import Timeline
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.scheduler import SchedulingOwner
from pileus.jobs.service import JobService
from pileus.models.versions import Registry
from pileus.observability.metrics import Metrics
from pileus.observability.series import Series
from pileus.security.audit import AuditLog
from pileus.security.keys import KeyService
from pileus.security.ring import KeyRing
from pileus.security.usage import UsageJournal
from pileus.store.backup import Backups
from pileus.training.finetune.service import FineTuneService
from pileus.webhooks.service import WebhookService


class RefusalCounter(Protocol):
    """Counts refusals by their reason."""

    def request_refused(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeServices:
    """What every gateway process has, for as long as it runs."""

    settings: Settings
    pipeline: Pipeline
    directory: Directory
    ring: KeyRing
    refusals: RefusalSink
    refusal_counter: RefusalCounter
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Services(EdgeServices):
    """What the process has that owns the data folder."""

    scheduling: SchedulingOwner
    deployments: Deployments
    adapters: Adapters
    files: FileService
    timeline: Timeline
    keys: KeyService
    audit: AuditLog
    usage: UsageJournal
    jobs: JobService
    registry: Registry
    batches: BatchService
    fine_tuning: FineTuneService
    backups: Backups
    background: BackgroundService
    webhooks: WebhookService
    promotions: Promotions
    judge: Judge
    metrics: Metrics
    series: Series
    started_at: float  # wall clock
