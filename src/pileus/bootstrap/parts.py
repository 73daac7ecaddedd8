"""The server's parts, each put together from the settings and the parts below it."""

from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from pileus import __version__
from pileus.bootstrap.local import backup_source, open_catalogue
from pileus.core.clock import SystemClock
from pileus.core.errors import PileusError
from pileus.models.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pileus.api.server import ApiServer
    from pileus.background.service import BackgroundService
    from pileus.batch.service import BatchService
    from pileus.bootstrap.workshop import LocalWorkshop
    from pileus.config.settings import Deployment as Wanted
    from pileus.config.settings import Settings
    from pileus.evaluation.judging import Judge
    from pileus.evaluation.promotion import Promotions
    from pileus.files.service import FileService
    from pileus.fleet.adapters import Adapters
    from pileus.fleet.autoscaler import Autoscaler
    from pileus.fleet.controller import Fleet
    from pileus.fleet.deployments import Deployments
    from pileus.fleet.records import Deployment
    from pileus.gateway.forwarding.owner import GatewayHub
    from pileus.gateway.pipeline import Pipeline
    from pileus.gateway.scheduler import SchedulingOwner
    from pileus.jobs.service import JobService
    from pileus.models.versions import Registry
    from pileus.observability.figures import DeploymentSample
    from pileus.observability.metrics import Metrics
    from pileus.observability.series import Series
    from pileus.observability.tracing import Tracer
    from pileus.security.service import Security
    from pileus.store.port import Store
    from pileus.training.finetune.service import FineTuneService
    from pileus.webhooks.service import WebhookService

log = structlog.get_logger(__name__)


class Plan(Struct, frozen=True):
    """What shall run: what the settings name, then what was deployed at run time."""

    workshop: "LocalWorkshop"
    deployments: "Sequence[Deployment]"
    settled: "Sequence[Wanted]"
    revived: "Sequence[Wanted]"


class House(Struct, frozen=True, kw_only=True):
    """What the edge stands on."""

    settings: "Settings"
    fleet: "Fleet"
    deployments: "Deployments"
    adapters: "Adapters"
    files: "FileService"
    jobs: "JobService"
    registry: "Registry"
    batches: "BatchService"
    fine_tuning: "FineTuneService"
    background: "BackgroundService"
    webhooks: "WebhookService"
    judge: "Judge"
    promotions: "Promotions"
    security: "Security"
    pipeline: "Pipeline"
    scheduling: "SchedulingOwner"
    metrics: "Metrics"
    series: "Series"


def make_plan(settings: "Settings", store: "Store", progress: Progress) -> Plan:
    """Each model is pulled where it is not here yet. What was deployed at run time and cannot run any more must not
    keep the server from its start: it is left out, and logged."""
    from pileus.bootstrap.workshop import LocalWorkshop
    from pileus.fleet.plan import revived
    from pileus.store.tables import DeploymentTable

    workshop = LocalWorkshop(settings, open_catalogue(settings))
    deployments = [workshop.make_ready(wanted, progress) for wanted in settings.deployment]
    kept = []
    stored = store.read_blocking(DeploymentTable().all) if deployments else ()  # without any, this serves jobs only
    for wanted in revived(settings.deployment, stored):
        try:
            workshop.check(wanted)
            deployments.append(workshop.make_ready(wanted, progress))
            kept.append(workshop.with_engine(wanted))
        except PileusError as error:
            log.error("stored_deployment_left_out", deployment=wanted.name, reason=error.message)
    return Plan(workshop, deployments, [workshop.with_engine(wanted) for wanted in settings.deployment], kept)


def make_scheduling(
    settings: "Settings", fleet: "Fleet", security: "Security", metrics: "Metrics", tracer: "Tracer"
) -> "SchedulingOwner":
    """Who decides when and where requests run, and enters their ends into the books."""
    from pileus.fleet.timeline import EventKind
    from pileus.gateway.failovers import Failovers
    from pileus.gateway.scheduler import SchedulingOwner
    from pileus.gateway.settle import Settlement
    from pileus.scheduling.routing import RoutingPolicy

    clock = SystemClock()
    settlement = Settlement(security.ledger, metrics, tracer, clock)
    policy = RoutingPolicy(settings.routing.policy)
    failovers = Failovers(
        lambda name, replica, count: fleet.tell(name, EventKind.REQUESTS_RESUMED, replica=replica, requests=count),
        lambda name, replica: fleet.tell(name, EventKind.REPLICA_EJECTED, replica=replica),
    )
    return SchedulingOwner(settings.queue, policy, fleet.directory, settlement, security.keys.shares, clock, failovers)


def make_pipeline(
    settings: "Settings",
    workshop: "LocalWorkshop",
    fleet: "Fleet",
    scheduling: "SchedulingOwner",
    security: "Security",
) -> "Pipeline":
    """The way of a request from its text to its settlement."""
    from pileus.gateway.pipeline import Pipeline

    pipeline = Pipeline(settings.limits, fleet.directory, scheduling, security.salt, SystemClock())
    for each in fleet.status():
        pipeline.open(each.info.name, workshop.tokenizer(each.info.model))
    fleet.on_opened.append(lambda each: pipeline.open(each.info.name, workshop.tokenizer(each.info.model)))
    fleet.on_closed.append(pipeline.close)
    return pipeline


def make_hub(fleet: "Fleet", scheduling: "SchedulingOwner", security: "Security", metrics: "Metrics") -> "GatewayHub":
    """Where further gateway processes forward to."""
    from pileus.gateway.forwarding.owner import GatewayHub

    def model_path(deployment: str) -> str | None:
        path: str | None = fleet.deployment(deployment).spec["model_path"]
        return path

    return GatewayHub(scheduling, fleet.directory, security.keys.ring, security.audit, metrics, model_path)


def make_acts(settings: "Settings", plan: Plan, fleet: "Fleet", store: "Store") -> "Deployments":
    """What operators do to deployments at run time."""
    from pileus.fleet.backends.local import available_bytes
    from pileus.fleet.deployments import Deployments

    return Deployments(
        fleet,
        plan.settled,
        plan.revived,
        store=store,
        workshop=plan.workshop,
        available=available_bytes,
        clock=SystemClock(),
    )


def make_adapters(plan: Plan, fleet: "Fleet", store: "Store") -> "Adapters":
    """What deployments serve beside their models; to be made before the fleet starts."""
    from pileus.fleet.adapters import Adapters

    adapters = Adapters(fleet, plan.workshop, store=store, clock=SystemClock())
    adapters.open()
    return adapters


def make_files(settings: "Settings", store: "Store") -> "FileService":
    """What people store here."""
    from pileus.bootstrap.contents import open_blobs
    from pileus.files.service import FileService

    return FileService(store, open_blobs(settings), SystemClock(), settings.files)


def make_autoscaler(fleet: "Fleet", scheduling: "SchedulingOwner", metrics: "Metrics") -> "Autoscaler":
    """What scales deployments by itself."""
    from pileus.fleet.autoscaler import Autoscaler
    from pileus.fleet.backends.local import available_bytes
    from pileus.gateway.demand import DemandMeter

    return Autoscaler(fleet, DemandMeter(scheduling, metrics), available_bytes, SystemClock())


def make_batches(settings: "Settings", store: "Store", jobs: "JobService") -> "BatchService":
    """Who takes batches in."""
    from pileus.batch.service import BatchService

    return BatchService(jobs, store, settings.batches, SystemClock())


def make_fine_tuning(settings: "Settings", store: "Store", jobs: "JobService", fleet: "Fleet") -> "FineTuneService":
    """Who has models learn."""
    from pileus.bootstrap.engines import CHOICE
    from pileus.training.finetune.place import Places
    from pileus.training.finetune.service import FineTuneService

    def rank(name: str) -> int:
        spec = fleet.deployment(name).spec
        return CHOICE.served_rank(spec["engine"], spec["options"])

    places = Places(fleet.directory, open_catalogue(settings), rank)
    return FineTuneService(jobs, store, places, settings.fine_tuning, SystemClock())


def make_background(settings: "Settings", jobs: "JobService") -> "BackgroundService":
    """What is answered while nobody waits."""
    from pileus.background.service import BackgroundService
    from pileus.bootstrap.contents import open_blobs

    return BackgroundService(jobs, open_blobs(settings), settings.background, SystemClock())


def make_webhooks(settings: "Settings", store: "Store", jobs: "JobService", security: "Security") -> "WebhookService":
    """Who is told of what happened."""
    from pileus.webhooks.addresses import resolver
    from pileus.webhooks.service import WebhookService

    resolve = resolver(allow_private=settings.webhooks.allow_private)
    return WebhookService(store, jobs, security.webhook_secret, resolve, SystemClock())


def make_judge(settings: "Settings", store: "Store", security: "Security") -> "Judge":
    """Who knows what the gate has said."""
    from pileus.evaluation.judging import Judge
    from pileus.evaluation.policy import Policy

    catalogue = open_catalogue(settings)
    policy = Policy(settings.gate, settings.fine_tuning.gate_margin)
    return Judge(store, security.verdict_signature, lambda model: catalogue.require(model).path, policy)


def make_promotions(store: "Store", fleet: "Fleet", judge: "Judge", metrics: "Metrics") -> "Promotions":
    """Who moves public names."""
    from pileus.evaluation.promotion import Promotions

    promotions = Promotions(store, fleet.directory, judge, metrics, fleet.tell, SystemClock())
    promotions.open()
    return promotions


def make_api(house: House) -> "ApiServer":
    """The HTTP server over everything else."""
    from pileus.api.app import create_app
    from pileus.api.server import create_server
    from pileus.api.services import Services
    from pileus.store.backup import Backups

    security, fleet = house.security, house.fleet
    services = Services(
        settings=house.settings,
        pipeline=house.pipeline,
        scheduling=house.scheduling,
        directory=fleet.directory,
        deployments=house.deployments,
        adapters=house.adapters,
        files=house.files,
        jobs=house.jobs,
        registry=house.registry,
        batches=house.batches,
        fine_tuning=house.fine_tuning,
        background=house.background,
        webhooks=house.webhooks,
        judge=house.judge,
        promotions=house.promotions,
        ring=security.keys.ring,
        refusals=security.audit,
        refusal_counter=house.metrics,
        timeline=fleet.timeline,
        keys=security.keys,
        audit=security.audit,
        usage=security.usage,
        metrics=house.metrics,
        series=house.series,
        backups=Backups(backup_source(house.settings), house.files.hold_deletions, SystemClock()),
        version=__version__,
        started_at=SystemClock().wall(),
    )
    return create_server(create_app(services), house.settings.server)


def samples(fleet: "Fleet", scheduling: "SchedulingOwner") -> "list[DeploymentSample]":
    """What the metrics show of the fleet and of the queues."""
    from pileus.fleet.lifecycle import Phase
    from pileus.observability.figures import DeploymentSample, ReplicaSample

    return [
        DeploymentSample(
            deployment=deployment.info.name,
            waiting=scheduling.waiting(deployment.info.name),
            replicas=tuple(
                ReplicaSample(
                    replica=replica.id,
                    up=replica.state == Phase.READY,
                    epoch=replica.epoch,
                    restarts=replica.restarts,
                    stats=replica.stats,
                )
                for replica in deployment.replicas
            ),
        )
        for deployment in fleet.status()
    ]
