"""What a preparation leaves on record: the dataset, and what it came of."""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pileus.data.spec import DataSpec, Prepared
from pileus.store.job_table import Job
from pileus.store.version_table import Edge, LineageTable

DATASET: Final = "dataset"  # a node of the lineage, by the id that its manifest has


def record_dataset(tx: Connection, job: Job) -> None:
    """In the transaction that ends the job (a `Kind`'s `on_ended`)."""
    if not job.result:
        return
    prepared = msgspec.json.decode(job.result, type=Prepared)
    lineage = LineageTable()
    lineage.insert(tx, Edge(DATASET, prepared.dataset, "job", job.id, "made by"))
    for given in msgspec.json.decode(job.spec, type=DataSpec).inputs:
        lineage.insert(tx, Edge(DATASET, prepared.dataset, "source", given, "prepared from"))
