"""Usage rows: in batches, none lost, none twice, bounded."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pileus.core.records import Lane, UsageRecord
from pileus.security.usage import UsageJournal
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import Total, UsageTable
from stored import usage_rows


def row(n: int = 0) -> UsageRecord:
    return UsageRecord(
        request_id=f"req_{n}",
        key_id="key_1",
        tenant="t",
        deployment="d",
        lane=Lane.ON_DEMAND,
        outcome="stop",
        at=1.0,
        prompt_tokens=2,
        completion_tokens=3,
        cost_micros=1,
    )


def ids(store: SqliteStore) -> list[str]:
    return [record.request_id for record in usage_rows(store)]


def totals(store: SqliteStore) -> Total:
    return store.read_blocking(UsageTable().totals).get("key_1", Total())


def test_a_full_batch_is_written_without_waiting(store: SqliteStore) -> None:
    journal = UsageJournal(store, batch_rows=3)
    for n in range(3):
        journal.append(row(n))
    store.write_blocking(lambda tx: None)
    assert ids(store) == ["req_0", "req_1", "req_2"]


def test_a_flush_writes_what_there_is(store: SqliteStore) -> None:
    journal = UsageJournal(store)
    journal.append(row())
    written = journal.flush()
    assert written is not None
    written.result(5)
    assert ids(store) == ["req_0"]
    store.write_blocking(lambda tx: None)
    assert journal.flush() is None


def test_closing_writes_everything_in_order(store: SqliteStore) -> None:
    journal = UsageJournal(store, batch_rows=10)
    for n in range(95):
        journal.append(row(n))
    assert journal.close() == 0
    assert ids(store) == [f"req_{n}" for n in range(95)]
    assert totals(store) == Total(requests=95, tokens=475, cost_micros=95)


def test_rows_wait_while_the_store_is_away_and_none_is_lost_or_doubled(store: SqliteStore, tmp_path: Path) -> None:
    journal = UsageJournal(store, batch_rows=4)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        for n in range(10):
            journal.append(row(n))
        assert journal.close() == 10
    assert journal.close() == 0
    assert ids(store) == [f"req_{n}" for n in range(10)]


def test_a_batch_whose_commit_was_in_doubt_counts_once(store: SqliteStore) -> None:
    """The commit arrived, the answer did not: the same batch comes again."""
    journal = UsageJournal(store)
    journal.append(row())
    written = journal.flush()
    assert written is not None
    written.result(5)
    store.write_blocking(lambda tx: None)
    last = store.read_blocking(UsageTable()._last_batch)
    assert last is not None
    journal._batch = (last, [row()])
    assert journal.close() == 0
    assert totals(store).requests == 1


def test_too_many_waiting_rows_say_that_no_work_should_begin(store: SqliteStore) -> None:
    journal = UsageJournal(store, batch_rows=100, waiting_limit=5)
    for n in range(5):
        assert not journal.full
        journal.append(row(n))
    assert journal.full
    journal.close()
    assert not journal.full


def test_a_closed_store_leaves_the_rows_counted(store: SqliteStore) -> None:
    journal = UsageJournal(store)
    journal.append(row())
    store.close()
    assert journal.close() == 1
