"""The server's parts, each put together from the settings and the parts below it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pileus import __version__
from pileus.bootstrap import FAKE_MODEL
from pileus.bootstrap.local import open_catalogue
from pileus.core.clock import SystemClock
from pileus.core.ports import Price
from pileus.models.progress import Progress

if TYPE_CHECKING:
    from pileus.api.server import ApiServer
    from pileus.config.settings import Settings
    from pileus.core.ports import Tokenizer
    from pileus.fleet.controller import Fleet
    from pileus.fleet.records import Deployment
    from pileus.gateway.pipeline import Pipeline
    from pileus.models.artefact import Artefact
    from pileus.observability.figures import DeploymentSample
    from pileus.observability.metrics import Metrics
    from pileus.observability.series import Series
    from pileus.observability.tracing import Tracer
    from pileus.security.service import Security

Artefacts = Mapping[str, "Artefact | None"]  # by the model's name; `None` for the model that is none


def get_artefacts(settings: "Settings", progress: Progress) -> Artefacts:
    """Every deployed model, pulled where it is not here yet."""
    catalogue = open_catalogue(settings)
    return {
        model: None if model == FAKE_MODEL else catalogue.ensure(model, progress)
        for model in dict.fromkeys(wanted.model for wanted in settings.deployment)
    }


def make_deployments(settings: "Settings", artefacts: Artefacts) -> "list[Deployment]":
    """What the fleet is to run."""
    from pileus.fleet.records import Deployment, DeploymentInfo

    return [
        Deployment(
            info=DeploymentInfo(
                name=wanted.name,
                model=wanted.model,
                engine=wanted.engine,
                aliases=wanted.aliases,
                price=Price(wanted.price.prompt, wanted.price.completion),
            ),
            spec={
                "engine": wanted.engine,
                "model": wanted.model,
                "model_path": str(artefact.path) if artefact else None,
                "context_length": artefact.context_length if artefact else 0,
                "options": wanted.options,
                "log_level": settings.log.level,
            },
            replicas=wanted.replicas,
        )
        for wanted in settings.deployment
        for artefact in [artefacts[wanted.model]]
    ]


def make_pipeline(
    settings: "Settings",
    artefacts: Artefacts,
    fleet: "Fleet",
    security: "Security",
    metrics: "Metrics",
    tracer: "Tracer",
) -> "Pipeline":
    """The way of a request from its text to its settlement."""
    from pileus.gateway.pipeline import Pipeline
    from pileus.gateway.settle import Settlement

    clock = SystemClock()
    tokenizers = {model: _tokenizer(artefact) for model, artefact in artefacts.items()}
    return Pipeline(
        settings,
        fleet.directory,
        {wanted.name: tokenizers[wanted.model] for wanted in settings.deployment},
        Settlement(security.ledger, metrics, tracer, clock),
        security.salt,
        security.keys.shares,
        clock,
    )


def make_api(
    settings: "Settings",
    fleet: "Fleet",
    security: "Security",
    pipeline: "Pipeline",
    metrics: "Metrics",
    series: "Series",
) -> "ApiServer":
    """The HTTP server over everything else."""
    from pileus.api.app import create_app
    from pileus.api.server import create_server
    from pileus.api.services import Services

    services = Services(
        settings=settings,
        pipeline=pipeline,
        directory=fleet.directory,
        keys=security.keys,
        audit=security.audit,
        metrics=metrics,
        series=series,
        version=__version__,
        started_at=SystemClock().wall(),
    )
    return create_server(create_app(services), settings.server)


def samples(fleet: "Fleet", pipeline: "Pipeline") -> "list[DeploymentSample]":
    """What the metrics show of the fleet and of the queues."""
    from pileus.fleet.lifecycle import Phase
    from pileus.observability.figures import DeploymentSample, ReplicaSample

    return [
        DeploymentSample(
            deployment=deployment.info.name,
            waiting=pipeline.waiting(deployment.info.name),
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


def _tokenizer(artefact: "Artefact | None") -> "Tokenizer":
    from pileus.models.tokenizer import load_tokenizer
    from pileus.testing.tokenizer import ByteTokenizer

    return ByteTokenizer() if artefact is None else load_tokenizer(artefact.path)
