"""The HTTP application with real security in front and a scripted pipeline behind."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI
from msgspec import Struct

from pileus.api.app import create_app
from pileus.api.server import create_server
from pileus.api.services import Services
from pileus.background.service import BackgroundService
from pileus.batch.service import BatchService
from pileus.bootstrap.handlers import kinds
from pileus.config.settings import Jobs, Settings
from pileus.core.errors import OperatorError
from pileus.core.records import EngineStats
from pileus.evaluation.judging import Judge
from pileus.evaluation.policy import Policy
from pileus.evaluation.promotion import Promotions
from pileus.evaluation.recording import Sign
from pileus.files.service import FileService
from pileus.fleet.deployments import Deployments
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo, DeploymentStatus, ReplicaStatus
from pileus.fleet.timeline import Timeline
from pileus.jobs.handler import Kind
from pileus.jobs.service import JobService
from pileus.models.versions import Registry
from pileus.observability.metrics import Metrics
from pileus.observability.series import Series
from pileus.security.audit import AuditLog
from pileus.security.keys import KeyService
from pileus.security.ledger import UsageLedger
from pileus.security.pepper import Pepper
from pileus.security.signing import Signer
from pileus.security.usage import UsageJournal
from pileus.store.backup import Backups, Source
from pileus.store.local_blobs import LocalBlobs
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from pileus.training.finetune.place import Places
from pileus.training.finetune.service import FineTuneService
from pileus.webhooks.addresses import resolver
from pileus.webhooks.service import WebhookService
from unit.api.scripted import ScriptedPipeline

CLOUDS = DeploymentInfo(name="clouds", model="fake", engine="fake", aliases=("default",))

JOB_KIND = "count"


class CountSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people ask of a job of that kind."""

    up_to: int


class Trainable:
    """Meets `training.finetune.place.Bases`."""

    def check_tunable(self, name: str) -> None:
        if name != "fake":
            raise OperatorError(f"{name} has no weights that training can begin from")


TRAINABLE = Trainable()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a test needs to hold in its hands."""

    app: FastAPI
    pipeline: ScriptedPipeline
    directory: ServingDirectory
    services: Services
    store: SqliteStore
    clock: ManualClock
    sign_verdict: Sign
    admin: str  # secrets of two keys
    user: str
    user_id: str

    def bearer(self, role: str = "user") -> dict[str, str]:
        return {"authorization": f"Bearer {getattr(self, role)}"}


@asynccontextmanager
async def edge_bench(data_dir: Path) -> AsyncIterator[Bench]:
    """An application over a fresh data folder, with an admin's and a user's key."""
    store, clock, metrics = SqliteStore.open(data_dir), ManualClock(time.time()), Metrics()
    try:
        journal = UsageJournal(store)
        ledger = UsageLedger(journal)
        pepper = Pepper.load(data_dir)
        keys = KeyService.open(store, pepper, ledger, clock)
        directory = ServingDirectory([CLOUDS], _status)
        settings = Settings(data_dir=data_dir)
        pipeline, audit = ScriptedPipeline(directory), AuditLog(store, clock)
        jobs = JobService(
            store, [Kind(name=JOB_KIND, spec=CountSpec), *kinds(settings)], Jobs(), data_dir / "jobs", clock
        )
        webhooks = WebhookService(store, jobs, lambda _: b"s" * 32, resolver(allow_private=False), clock)
        places = Places(directory, TRAINABLE, lambda _: sys.maxsize)
        judge = Judge(
            store, pepper.verdict_signature, lambda name: data_dir / "models" / name, Policy(settings.gate, 0.02)
        )
        services = Services(
            settings=settings,
            pipeline=cast(Any, pipeline),
            scheduling=cast(Any, pipeline),
            directory=directory,
            deployments=_deployments(store, clock),
            adapters=cast(Any, None),
            files=FileService(store, LocalBlobs(data_dir / "blobs"), clock, settings.files),
            timeline=Timeline(),
            ring=keys.ring,
            refusals=audit,
            refusal_counter=metrics,
            keys=keys,
            audit=audit,
            usage=journal,
            jobs=jobs,
            registry=Registry(store, data_dir / "models" / "artefacts", Signer(bytes(32)), clock),
            batches=BatchService(jobs, store, settings.batches, clock),
            fine_tuning=FineTuneService(jobs, store, places, settings.fine_tuning, clock),
            background=BackgroundService(jobs, LocalBlobs(data_dir / "blobs"), settings.background, clock),
            webhooks=webhooks,
            judge=judge,
            promotions=Promotions(store, directory, judge, metrics, _tell, clock),
            backups=Backups(Source(data_dir=data_dir, version="1.2.3", files=(), models="models"), nullcontext, clock),
            metrics=metrics,
            series=Series(metrics),
            version="1.2.3",
            started_at=time.time(),
        )
        app = create_app(services)
        _, admin = await keys.create("boss", "admin")
        user, secret = await keys.create("laptop", "user")
        yield Bench(
            app=app,
            pipeline=pipeline,
            directory=directory,
            services=services,
            store=store,
            clock=clock,
            sign_verdict=pepper.verdict_signature,
            admin=admin,
            user=secret,
            user_id=user.id,
        )
    finally:
        store.close()


@asynccontextmanager
async def listening(bench: Bench, drain_s: float = 20.0) -> AsyncIterator[int]:
    """The application behind a real server on loopback; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = create_server(bench.app, bench.services.settings.server.model_copy(update={"drain_s": drain_s}))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await server.listening.wait()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def _tell(*what: Any, **more: Any) -> None:
    """There is no fleet that would note it."""


def _status() -> list[DeploymentStatus]:
    return [DeploymentStatus(info=CLOUDS, replicas=(_REPLICA,), desired=1)]


def _deployments(store: SqliteStore, clock: ManualClock) -> Deployments:
    """To be looked at. For acts on a fleet see test_deployments."""
    fleet, workshop = cast(Any, SimpleNamespace(status=_status)), cast(Any, None)
    return Deployments(fleet, [], [], store=store, workshop=workshop, available=lambda: 0, clock=clock)


_REPLICA = ReplicaStatus(
    id="clouds/0",
    state="ready",
    pid=4711,
    epoch=2,
    restarts=1,
    stats=EngineStats(running=3, slots=8, kv_blocks=100, kv_blocks_used=40, generated_tokens=900),
    tokens_per_s=123.5,
    step_s=0.0125,
)
