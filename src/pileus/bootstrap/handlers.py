"""The kinds of jobs: what the owner must know of each, and how a worker process opens its handler."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pileus.core.clock import SystemClock

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.core.records import Principal
    from pileus.evaluation.handler import Ground
    from pileus.evaluation.recording import Sign
    from pileus.jobs.handler import Handler, Kind

Opener = Callable[["Settings", Path, AsyncExitStack], "Awaitable[Opened]"]

_REQUESTS = 256  # in the background at the same time
_DELIVERIES = 64  # to webhooks at the same time
_DELIVERY_RETRIES = 296  # over a day
_DELIVERY_KEEP_S = 7 * 86_400.0
_TENSORBOARD = "tensorboard"  # the folder of a training's event files (`training.curves`)
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the cores to requests


class Opened(Struct, frozen=True):
    """What runs jobs. Once `lost` is done, it has lost what it stands on, and its process must end."""

    handler: "Handler"
    lost: "asyncio.Future[str] | None" = None


def kinds(settings: "Settings") -> "list[Kind]":
    """All that this Pileus has."""
    from pileus.background.records import KIND as BACKGROUND
    from pileus.batch.service import batch_kind
    from pileus.compression.spec import CompressSpec
    from pileus.data.recording import record_dataset
    from pileus.data.spec import DataSpec
    from pileus.evaluation.attention_records import AttentionSpec
    from pileus.evaluation.recording import record_evaluation, ruling_recorder, verdict_recorder
    from pileus.evaluation.records import EvaluationSpec, GateSpec
    from pileus.jobs.child import FIGURES
    from pileus.jobs.handler import Kind
    from pileus.models.obtaining import ImportSpec, PullSpec
    from pileus.models.registry import register_made
    from pileus.training.finetune.ending import fine_tune_kind
    from pileus.training.spec import Train, Tune
    from pileus.webhooks.delivery import KIND as WEBHOOK

    return [
        Kind(name="attention", spec=AttentionSpec),
        Kind(name="compress", spec=CompressSpec, on_ended=register_made, lasting=FIGURES),
        Kind(name="data", spec=DataSpec, on_ended=record_dataset),
        Kind(name="evaluate", spec=EvaluationSpec, on_ended=record_evaluation),
        Kind(name="gate", spec=GateSpec, on_ended=verdict_recorder(_signer(settings))),
        Kind(name="import", spec=ImportSpec, lasting=FIGURES),
        Kind(name="pull", spec=PullSpec, lasting=FIGURES),
        Kind(name="train", spec=Train, on_ended=register_made, lasting=FIGURES | {_TENSORBOARD}),
        Kind(name="tune", spec=Tune, on_ended=register_made, lasting=FIGURES),
        batch_kind(settings.batches),
        fine_tune_kind(settings.fine_tuning, ruling_recorder(_signer(settings))),
        Kind(name=BACKGROUND, places=_REQUESTS, keep_s=settings.background.keep_s),
        Kind(name=WEBHOOK, places=_DELIVERIES, retries=_DELIVERY_RETRIES, keep_s=_DELIVERY_KEEP_S),
    ]


def _signer(settings: "Settings") -> "Sign":
    """What signs verdicts, in the process that owns the data folder."""

    def sign(body: bytes) -> bytes:
        from pileus.security.pepper import Pepper

        return Pepper.load(settings.data_dir, may_make=False).verdict_signature(body)

    return sign


async def open_handler(kind: str, settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    """What runs jobs of that kind in this process. `scheduling` is the owner's socket for requests; what the handler
    stands on closes with the stack."""
    return await _OPENERS[kind](settings, scheduling, stack)


async def _open_batch(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.api.openai.single import line_endpoints
    from pileus.batch.handler import BatchHandler
    from pileus.batch.workplace import Workplace
    from pileus.bootstrap.contents import open_blobs
    from pileus.bootstrap.member import expire_keys, join

    member = await join(settings, scheduling)
    stack.push_async_callback(member.owner.close)
    directory = member.owner.directory

    def principal(key_id: str) -> "Principal | None":
        return None if member.ring.get(key_id) is None else member.ring.holder(key_id)

    handler = BatchHandler(
        Workplace(
            settings=settings.batches,
            max_line_bytes=settings.server.max_body_bytes,
            endpoints=line_endpoints(member.pipeline, directory, settings.limits),
            blobs=open_blobs(settings),
            directory=directory,
            principal=principal,
            clock=SystemClock(),
        )
    )
    member.ring.on_closed.append(lambda key_id, refusal: handler.close_key(key_id, refusal.message))
    expiring = asyncio.create_task(expire_keys(member.ring))
    stack.callback(expiring.cancel)
    return Opened(handler, member.owner.lost)


async def _open_background(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.api.openai.single import BackgroundSpeaker
    from pileus.background.handler import BackgroundHandler
    from pileus.bootstrap.contents import open_blobs
    from pileus.bootstrap.member import expire_keys, join

    member = await join(settings, scheduling)
    stack.push_async_callback(member.owner.close)
    speaker = BackgroundSpeaker(member.pipeline, settings.limits)
    handler = BackgroundHandler(speaker, open_blobs(settings), member.ring.holder, SystemClock())
    member.ring.on_closed.append(lambda key_id, _: handler.close_key(key_id))
    expiring = asyncio.create_task(expire_keys(member.ring))
    stack.callback(expiring.cancel)
    return Opened(handler, member.owner.lost)


async def _open_fine_tuning(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.bootstrap.contents import open_blobs
    from pileus.bootstrap.gating import fine_tuning_judge
    from pileus.bootstrap.local import open_catalogue
    from pileus.jobs.child import run_child
    from pileus.models.tokenizer import load_tokenizer
    from pileus.training.finetune.handler import FineTuneHandler, Workplace

    catalogue = open_catalogue(settings)
    workplace = Workplace(
        settings=settings.fine_tuning,
        blobs=open_blobs(settings),
        tokenizer=lambda model: load_tokenizer(catalogue.ensure(model).path),
        run=lambda context, order: run_child(
            context, "pileus.training.finetune.process", settings, spec=order, environment=_PASSIVE
        ),
        judge=fine_tuning_judge(settings, catalogue),
        clock=SystemClock(),
    )
    return Opened(FineTuneHandler(workplace))


async def _open_webhook(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.security.pepper import Pepper
    from pileus.webhooks.addresses import resolver
    from pileus.webhooks.delivery import Courier

    pepper = Pepper.load(settings.data_dir, may_make=False)
    resolve = resolver(allow_private=settings.webhooks.allow_private)
    courier = Courier(pepper.webhook_secret, resolve, SystemClock())
    stack.push_async_callback(courier.close)
    return Opened(courier)


async def _open_evaluate(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.evaluation.handler import EvaluationHandler

    ground, lost = await _ground(settings, scheduling, stack)
    return Opened(EvaluationHandler(ground), lost)


async def _open_gate(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.evaluation.handler import GateHandler

    ground, lost = await _ground(settings, scheduling, stack)
    return Opened(GateHandler(ground), lost)


async def _open_attention(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
    from pileus.bootstrap.local import open_catalogue
    from pileus.evaluation.attention_handler import AttentionHandler

    return Opened(AttentionHandler(settings, lambda name: open_catalogue(settings).require(name).path))


async def _ground(
    settings: "Settings", scheduling: Path, stack: AsyncExitStack
) -> "tuple[Ground, asyncio.Future[str]]":
    """What evaluations stand on: the owner's queues, and the models folder."""
    from pileus.bootstrap.local import open_catalogue
    from pileus.bootstrap.member import expire_keys, join
    from pileus.evaluation.asking import PipelineAsker
    from pileus.evaluation.handler import Ground, measure_in_child

    member = await join(settings, scheduling)
    stack.push_async_callback(member.owner.close)
    expiring = asyncio.create_task(expire_keys(member.ring))
    stack.callback(expiring.cancel)
    catalogue = open_catalogue(settings)
    ground = Ground(
        asker=lambda principal: PipelineAsker(member.pipeline, principal),
        principal=member.ring.holder,
        directory=member.owner.directory,
        folder=lambda name: catalogue.require(name).path,
        measure=measure_in_child(settings),
    )
    return ground, member.owner.lost


def _open_child(module: str) -> Opener:
    async def open_handler(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> Opened:
        from pileus.jobs.child import run_child

        return Opened(lambda context: run_child(context, module, settings))

    return open_handler


# Kinds of jobs that compute in a process of their own, which may import what no other process does, or be killed.
_MODULES: Mapping[str, str] = {
    "compress": "pileus.compression.process",
    "data": "pileus.data.process",
    "import": "pileus.bootstrap.obtaining",
    "pull": "pileus.bootstrap.obtaining",
    "train": "pileus.training.process",
    "tune": "pileus.training.tuning",
}
_OPENERS: Mapping[str, Opener] = {
    "attention": _open_attention,
    "background": _open_background,
    "batch": _open_batch,
    "evaluate": _open_evaluate,
    "fine_tune": _open_fine_tuning,
    "gate": _open_gate,
    "webhook": _open_webhook,
} | {name: _open_child(module) for name, module in _MODULES.items()}
