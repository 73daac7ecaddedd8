"""Artefacts and versions for tests of the registry: folders with a manifest, and rows as a job would leave them."""

import hashlib
from pathlib import Path

from msgspec.json import encode

from pileus.models.artefact import MANIFEST, Kind, Manifest, digest_file, write_record
from pileus.models.registry import Made, Parent
from pileus.store.job_table import Job, JobState


def shelve(
    models_dir: Path, name: str, files: dict[str, bytes], *, licence: str = "", model: str = "", kind: str = "adapter"
) -> str:
    """Install these files as an artefact; gives the hash of its manifest."""
    folder = models_dir / "artefacts" / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    manifest = Manifest(
        kind=Kind(kind),
        name=name,
        model=model,
        licence=licence,
        source="sha256:" + hashlib.sha256(b"".join(files.values())).hexdigest(),
        converter="test",
        files={file: digest_file(folder / file) for file in files},
    )
    write_record(folder / MANIFEST, manifest)
    return digest_file(folder / MANIFEST).sha256


def made(
    artefact: str,
    sha256: str,
    *,
    model: str,
    licence: str = "",
    parents: tuple[Parent, ...] = (),
    **figures: float,
) -> Made:
    """As a job tells of it."""
    return Made(
        model=model,
        artefact=artefact,
        kind="adapter",
        sha256=sha256,
        size_bytes=9,
        licence=licence,
        parents=parents,
        figures=figures,
    )


def job(name: str, *results: Made, tenant: str = "default") -> Job:
    """One that has ended with these."""
    return Job(
        id=f"job_{name}",
        kind="train",
        tenant=tenant,
        key_id="key_1",
        spec=b"{}",
        state=JobState.SUCCEEDED,
        created_at=1e9,
        finished_at=1e9 + 60,
        result=encode({"made": results}),
    )
