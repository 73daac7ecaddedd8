"""What the tables of files keep, they give back; who refers to a blob is known."""

import re

from msgspec import structs
from sqlalchemy import Connection, event

from pileus.store.file_table import (
    StoredFile,
    StoredPart,
    StoredUpload,
    delete_expired_files,
    end_upload,
    find_file,
    find_upload,
    forget_gone_files,
    insert_file,
    insert_part,
    insert_upload,
    overdue_uploads,
    parts_of,
    place_of_file,
    sum_of_parts,
    tenant_use,
    unreferenced,
)
from pileus.store.sqlite import SqliteStore
from stored import insert_job

FILE = StoredFile(
    id="file-1",
    tenant="acme",
    key_id="key_1",
    filename="räume.jsonl",
    purpose="batch",
    bytes=2**40,
    sha256="ab" * 32,
    blob="files/file-1",
    created_at=1.5,
    expires_at=9.0,
)
UPLOAD = StoredUpload(
    id="upload_1",
    tenant="acme",
    key_id="key_1",
    filename="a",
    purpose="evals",
    bytes=100,
    status="pending",
    created_at=1.0,
    expires_at=3601.0,
    file_expires_s=7200.0,
)
PART = StoredPart(id="part_1", upload_id="upload_1", bytes=60, blob="parts/part_1", created_at=2.0)


def fill(tx: Connection) -> None:
    insert_file(tx, FILE)
    insert_upload(tx, UPLOAD)
    insert_part(tx, PART)


def test_every_field_comes_back(store: SqliteStore) -> None:
    store.write_blocking(fill)
    assert store.read_blocking(lambda tx: find_file(tx, "acme", "file-1", 8.9)) == FILE
    assert store.read_blocking(lambda tx: find_file(tx, "acme", "file-1", 9.0)) is None
    assert store.read_blocking(lambda tx: find_file(tx, "other", "file-1", 1.0)) is None
    assert store.read_blocking(lambda tx: find_upload(tx, "acme", "upload_1")) == UPLOAD
    assert store.read_blocking(lambda tx: parts_of(tx, "upload_1")) == {"part_1": PART}


def test_a_tenant_has_its_files_and_what_its_pending_uploads_may_become(store: SqliteStore) -> None:
    def together() -> tuple[int, int]:
        return store.read_blocking(lambda tx: tenant_use(tx, "acme"))

    assert together() == (0, 0)
    store.write_blocking(fill)
    assert together() == (FILE.bytes + 100, 2)
    store.write_blocking(lambda tx: insert_part(tx, structs.replace(PART, id="part_2", blob="parts/part_2")))
    assert together() == (FILE.bytes + 120, 3), "more came than was announced"
    keys = store.write_blocking(lambda tx: end_upload(tx, "upload_1", "cancelled"))
    assert sorted(keys) == ["parts/part_1", "parts/part_2"]
    assert together() == (FILE.bytes, 1)
    assert store.read_blocking(lambda tx: tenant_use(tx, "other")) == (0, 0)


def test_a_blob_is_referred_to_by_files_parts_and_jobs_that_go_on(store: SqliteStore) -> None:
    def jobs(tx: Connection) -> None:
        insert_job(tx, "job_a", "running", "x/1,x/2")
        insert_job(tx, "job_b", "succeeded", "x/3")
        insert_job(tx, "job_c", "queued", "")
        insert_job(tx, "job_d", "failed", "x/5")  # it may be resumed

    store.write_blocking(fill)
    store.write_blocking(jobs)
    keys = ["files/file-1", "parts/part_1", "x/1", "x/2", "x/3", "x/4", "x/5"]
    assert store.read_blocking(lambda tx: unreferenced(tx, keys)) == {"x/3", "x/4"}
    assert store.read_blocking(lambda tx: unreferenced(tx, [])) == set()


def test_no_statement_about_one_tenant_or_one_upload_reads_a_whole_table(store: SqliteStore) -> None:
    """What everybody's thread does for one file must not grow with everybody's files."""
    asked: list[tuple[str, object]] = []

    def work(tx: Connection) -> None:
        def note(_: object, __: object, statement: str, values: object, *___: object) -> None:
            asked.append((statement, values))

        event.listen(tx, "before_cursor_execute", note)
        tenant_use(tx, "acme")
        sum_of_parts(tx, "upload_1")
        place_of_file(tx, "acme", "file-1")
        delete_expired_files(tx, 1.0)
        forget_gone_files(tx, 1.0)
        overdue_uploads(tx, 1.0)
        unreferenced(tx, ["files/file-1"])
        event.remove(tx, "before_cursor_execute", note)
        assert len(asked) >= 8
        steps = []
        for statement, values in asked:
            plan = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not any(re.match("SCAN (file|gone_file|upload|upload_part)( |$)", step) for step in plan), plan
            steps += plan
        for index in ("ix_file_tenant_bytes", "ix_upload_part_upload_id"):
            assert any(f"USING COVERING INDEX {index}" in step for step in steps), "sums need no rows"

    store.write_blocking(work)
