"""What models there are, in which versions, and what each came of. Jobs that make models say so in their results."""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.ids import new_id
from pileus.models.card import Card, write_card
from pileus.store.job_table import Job
from pileus.store.version_table import Edge, LineageTable, Version, VersionTable


class Stage(StrEnum):
    """How far a version is trusted."""

    CANDIDATE = "candidate"  # where each begins
    STAGING = "staging"
    PRODUCTION = "production"
    RETIRED = "retired"


CANDIDATE: Final = Stage.CANDIDATE.value


class Parent(Struct, frozen=True):
    """What a model came of: the artefact of a model, a dataset, another version."""

    kind: str  # artefact, dataset, version
    id: str
    relation: str  # e.g. "fine-tuned from", "trained on", "compressed from", "distilled from"


class Made(Struct, frozen=True, kw_only=True):
    """A model that a job made. Its artefact is installed before the job ends."""

    model: str
    artefact: str
    kind: str
    sha256: str  # of the artefact's manifest
    size_bytes: int
    licence: str = ""
    parents: tuple[Parent, ...] = ()
    figures: dict[str, float] = {}  # e.g. validation loss; for the model's card
    notes: str = ""


class Harvest(Struct, frozen=True):
    """The part of a job's result that the registry reads; a result may say more."""

    made: tuple[Made, ...] = ()


_decode: Final = msgspec.json.Decoder(Harvest).decode


def register_made(tx: Connection, job: Job) -> None:
    """Put on record what a job made, in the transaction that ends it (a `Kind`'s `on_ended`)."""
    for made in _decode(job.result).made if job.result else ():
        known = VersionTable().of_content(tx, made.artefact, made.sha256)
        if known is not None and known.job_id == job.id:
            continue  # the job failed all the same, was resumed, and made the same again
        version = _version(tx, job, made, _adopted(tx, known))
        VersionTable().insert(tx, version)
        lineage = LineageTable()
        lineage.insert(tx, Edge("version", version.id, "job", job.id, "made by"))
        for parent in made.parents:
            kind, parent_id = _known(tx, parent)
            lineage.insert(tx, Edge("version", version.id, kind, parent_id, parent.relation))


def _known(tx: Connection, parent: Parent) -> tuple[str, str]:
    """An artefact that is a version's is that version."""
    version = VersionTable().of_artefact(tx, parent.id) if parent.kind == "artefact" else None
    return (parent.kind, parent.id) if version is None else ("version", version.id)


def _inherited(tx: Connection, made: Made) -> str:
    """The licences of the models that it came of, where the job states none."""
    parents = [VersionTable().of_artefact(tx, parent.id) for parent in made.parents if parent.kind == "artefact"]
    return " AND ".join(dict.fromkeys(parent.licence for parent in parents if parent and parent.licence))


def _adopted(tx: Connection, found: Version | None) -> str:
    """The id under which somebody who looked before the job had ended found its artefact lying there; that entry gives
    way to the job's."""
    if found is None or found.job_id:
        return new_id("ver")
    VersionTable().delete(tx, found.id)
    return found.id


def _version(tx: Connection, job: Job, made: Made, version_id: str) -> Version:
    assert job.finished_at is not None
    return Version(
        id=version_id,
        model=made.model,
        number=VersionTable().next_number(tx, made.model),
        artefact=made.artefact,
        kind=made.kind,
        sha256=made.sha256,
        size_bytes=made.size_bytes,
        licence=made.licence or _inherited(tx, made),
        stage=CANDIDATE,
        tenant=job.tenant,
        created_at=job.finished_at,
        created_by=job.key_id,
        job_id=job.id,
        card=write_card(Card(figures=dict(made.figures), notes=made.notes)),
    )
