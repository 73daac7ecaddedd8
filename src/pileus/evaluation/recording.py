"""What stays of evaluations and gates: figures on the card of a version, and verdicts, signed and audited."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.ids import new_id
from pileus.core.records import AuditEvent
from pileus.evaluation.records import Evaluated, EvaluationResult, GateResult
from pileus.store.job_table import Job, JobState
from pileus.store.tables import AuditTable
from pileus.store.traffic_table import Verdict, VerdictTable
from pileus.store.version_table import VersionTable

Sign = Callable[[bytes], bytes]

_MANIFEST: Final = "sha256:"


class VerdictBody(Struct, frozen=True, kw_only=True):
    """What is signed: the id and the time too, so that no verdict can stand in for another."""

    id: str
    at: float
    job: str
    by: str  # key id
    result: GateResult


def subjects(tx: Connection, sha256: str) -> list[str]:
    """Under what verdicts of a manifest may stand."""
    return [*(version.id for version in VersionTable().of_manifest(tx, sha256)), f"{_MANIFEST}{sha256}"]


def record_evaluation(tx: Connection, job: Job) -> None:
    """Enter the figures on the cards of the versions that were looked at, in the transaction that ends the job."""
    if job.state is not JobState.SUCCEEDED:
        return
    result = msgspec.json.decode(job.result, type=EvaluationResult)
    for evaluated in (result.of, result.against):
        if evaluated is not None and evaluated.sha256:
            _enter(tx, evaluated)


def _enter(tx: Connection, evaluated: Evaluated) -> None:
    figures = {f"{each.task}.{each.metric}": each.score.value for each in evaluated.scores}
    figures |= {f"{each.text}.perplexity": each.perplexity.value for each in evaluated.perplexities}
    table = VersionTable()
    for version in table.of_manifest(tx, evaluated.sha256):
        card: dict[str, Any] = msgspec.json.decode(version.card)
        card["figures"] = {**card.get("figures", {}), **figures}
        table.change(tx, version.id, card=msgspec.json.encode(card))


def verdict_recorder(sign: Sign) -> Callable[[Connection, Job], None]:
    """Put a gate's verdict on record, in the transaction that ends its job."""

    def record(tx: Connection, job: Job) -> None:
        if job.state is JobState.SUCCEEDED:
            _record(tx, job, msgspec.json.decode(job.result, type=GateResult), sign)

    return record


class _Ruling(Struct, frozen=True):
    evidence: GateResult


class Ruled(Struct, frozen=True):
    """The part of a fine-tuning's result that is read here; it says more."""

    rulings: tuple[_Ruling, ...] = ()


def ruling_recorder(sign: Sign) -> Callable[[Connection, Job], None]:
    """Put on record what the gate said at the end of a fine-tuning, also of one that failed by it."""

    def record(tx: Connection, job: Job) -> None:
        for ruling in msgspec.json.decode(job.result, type=Ruled).rulings if job.result else ():
            _record(tx, job, ruling.evidence, sign)

    return record


def _record(tx: Connection, job: Job, result: GateResult, sign: Sign) -> None:
    """Signed, and in the audit."""
    assert job.finished_at is not None
    id_, at = new_id("vrd"), job.finished_at
    body = msgspec.json.encode(VerdictBody(id=id_, at=at, job=job.id, by=job.key_id, result=result))
    subject = subjects(tx, result.sha256)[0]
    verdict = Verdict(id=id_, version_id=subject, passed=result.passed, at=at, body=body, signature=sign(body))
    VerdictTable().insert(tx, verdict)
    event = AuditEvent(
        at=at,
        actor=job.key_id,
        tenant=job.tenant,
        action="gate.verdict",
        target=f"{result.candidate} ({subject})",
        outcome="ok" if result.passed else "refused",
        request_id=job.id,
    )
    AuditTable().insert(tx, [event])
