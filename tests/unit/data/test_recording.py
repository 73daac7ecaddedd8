"""What a preparation leaves on record, up to the graph that people see."""

from pathlib import Path

from msgspec.json import encode
from msgspec.structs import replace

from made_versions import job, made
from pileus.data.recording import record_dataset
from pileus.data.spec import DataSpec, Prepared
from pileus.models.lineage import trace
from pileus.models.registry import Parent, register_made
from pileus.store.sqlite import SqliteStore
from pileus.store.version_table import LineageTable, VersionTable


def test_a_model_leads_back_to_what_its_dataset_was_prepared_from(tmp_path: Path) -> None:
    prepared = Prepared(dataset="dataset-1", folder="/d", documents=1, tokens=9)
    spec = DataSpec(inputs=("/corpus", "/more"), out="/d")
    done = replace(job("data"), spec=encode(spec), result=encode(prepared))
    cancelled = replace(done, id="job_cancelled", result=b"")
    parents = (Parent("dataset", "dataset-1", "trained on"),)
    trained = job("train", made("tiny-1", "sha", model="tiny", parents=parents))
    store = SqliteStore.open(tmp_path)
    for ended, record in ((cancelled, record_dataset), (done, record_dataset), (trained, register_made)):
        store.write_blocking(lambda tx, record=record, ended=ended: record(tx, ended))
    versions = store.read_blocking(VersionTable().all)
    graph = trace(versions, versions, store.read_blocking(LineageTable().all), [])
    store.close()
    assert {(edge.child, edge.relation, edge.parent) for edge in graph.edges} == {
        (f"version:{versions[0].id}", "made by", "job:job_train"),
        (f"version:{versions[0].id}", "trained on", "dataset:dataset-1"),
        ("dataset:dataset-1", "made by", "job:job_data"),
        ("dataset:dataset-1", "prepared from", "source:/corpus"),
        ("dataset:dataset-1", "prepared from", "source:/more"),
    }
