"""What becomes of a fine-tuning's result, in the transaction that ends its job."""

from collections.abc import Callable

from sqlalchemy import Connection

from pileus.config.settings import FineTuning
from pileus.jobs.child import FIGURES
from pileus.jobs.handler import Kind
from pileus.models.registry import register_made
from pileus.store.adapter_table import AdapterTable, StoredAdapter
from pileus.store.file_table import StoredFile, insert_file
from pileus.store.job_table import Job
from pileus.training.finetune.records import (
    KIND,
    RESULT_PURPOSE,
    FineTuneResult,
    FineTuneSpec,
    ResultFile,
    decode_result,
    decode_spec,
)

_PLACES = 64  # jobs that a worker has at the same time; most of them wait for their turn


def fine_tune_kind(settings: FineTuning, record_rulings: Callable[[Connection, Job], None]) -> Kind:
    """What the owner of jobs must know of fine-tunings; `record_rulings` keeps what the gate said of their results."""

    def on_ended(tx: Connection, job: Job) -> None:
        settle(tx, job)
        record_rulings(tx, job)  # of models that are registered by now

    return Kind(name=KIND, places=max(_PLACES, settings.together), closes=True, on_ended=on_ended, lasting=FIGURES)


def settle(tx: Connection, job: Job) -> None:
    """Register the model, let those adapters be served that were not refused, and make a file of the figures."""
    result = decode_result(job.result)
    if result is None:
        return
    register_made(tx, job)
    spec = decode_spec(job.spec)
    if spec.deployment and spec.wishes.adaptation == "lora":
        _serve(tx, job, spec, result)
    if result.result is not None:
        _file(tx, job, result.result)


def _serve(tx: Connection, job: Job, spec: FineTuneSpec, result: FineTuneResult) -> None:
    """As `deployment:adapter`, for the tenant that had it made."""
    assert job.finished_at is not None
    for kept in result.kept:
        if result.refusal(kept.name):
            continue
        row = StoredAdapter(
            deployment=spec.deployment,
            name=kept.name.removeprefix(f"{spec.deployment}:"),
            artefact=kept.name,
            tenant=job.tenant,
            created_at=job.finished_at,
            created_by=job.key_id,
        )
        AdapterTable().put(tx, row)


def _file(tx: Connection, job: Job, content: ResultFile) -> None:
    assert job.finished_at is not None
    file = StoredFile(
        id=content.file_id,
        tenant=job.tenant,
        key_id=job.key_id,
        filename=f"{job.id}_metrics.csv",
        purpose=RESULT_PURPOSE,
        bytes=content.bytes,
        sha256=content.sha256,
        blob=content.blob,
        created_at=job.finished_at,
    )
    insert_file(tx, file)
