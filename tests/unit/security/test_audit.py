"""Acts are durable before they happen; refusals are bounded however many there are."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pileus.core.errors import ConfigError, OperatorError, Unavailable
from pileus.core.records import AuditEvent
from pileus.security.audit import PENDING_LIMIT, AuditLog, clean
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock


@pytest.fixture
def audit(store: SqliteStore, clock: ManualClock) -> AuditLog:
    return AuditLog(store, clock)


def event(action: str = "request.refused", **fields: str) -> AuditEvent:
    return AuditEvent(**({"at": 1.0, "actor": "key_1", "tenant": "t", "action": action} | fields))  # type: ignore[arg-type]


def stored(store: SqliteStore) -> list[AuditEvent]:
    return [row for _, row in reversed(store.read_blocking(partial(AuditTable().latest, limit=10_000)))]


def test_an_act_is_durable_when_record_returns(audit: AuditLog, tmp_path: Path) -> None:
    audit.record(event("server.start"))
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as other:
        assert other.execute("SELECT action FROM audit").fetchall() == [("server.start",)]


def test_an_act_that_cannot_be_recorded_is_told(audit: AuditLog, store: SqliteStore) -> None:
    store.close()
    with pytest.raises(Unavailable):
        audit.record(event("server.start"))


def test_a_server_run_has_its_start_and_its_stop_on_record(
    audit: AuditLog, store: SqliteStore, clock: ManualClock
) -> None:
    began = clock.wall()
    with audit.server_run("1.0 at http://h:1"):
        assert [row.action for row in stored(store)] == ["server.start"]
        clock.advance(60)
    rows = [(row.action, row.actor, row.target, row.outcome, row.at - began) for row in stored(store)]
    assert rows == [
        ("server.start", "system", "1.0 at http://h:1", "ok", 0),
        ("server.stop", "system", "1.0 at http://h:1", "ok", 60),
    ]


@pytest.mark.parametrize(
    ("error", "outcome"), [(ConfigError("no"), "config_error"), (ZeroDivisionError(), "internal_error")]
)
def test_a_run_that_ends_in_an_error_says_so(
    audit: AuditLog, store: SqliteStore, error: Exception, outcome: str
) -> None:
    with pytest.raises(type(error)), audit.server_run("x"):
        raise error
    assert [(row.action, row.outcome) for row in stored(store)] == [("server.start", "ok"), ("server.stop", outcome)]


def test_a_server_whose_start_cannot_be_recorded_does_not_run(audit: AuditLog, store: SqliteStore) -> None:
    store.close()
    with pytest.raises(OperatorError, match="the audit cannot be written") as refused, audit.server_run("x"):
        pytest.fail("it ran")
    assert "\n" not in refused.value.message


def test_a_stop_that_cannot_be_recorded_happens_and_is_logged(audit: AuditLog, store: SqliteStore) -> None:
    with capture_logs() as events, audit.server_run("x"):
        store.close()
    assert [(event["event"], event["action"]) for event in events] == [("audit.lost", "server.stop")]


def test_refusals_are_written_at_the_next_flush_in_order(audit: AuditLog, store: SqliteStore) -> None:
    for n in range(3):
        audit.refused(event(target=str(n)))
    assert stored(store) == []
    written = audit.flush()
    assert written is not None
    written.result(5)
    assert [row.target for row in stored(store)] == ["0", "1", "2"]
    assert audit.flush() is None


def test_a_flood_of_refusals_is_counted_and_not_stored(audit: AuditLog, store: SqliteStore) -> None:
    for _ in range(100_000):
        audit.refused(event())
    audit.close()
    rows = stored(store)
    assert len(rows) == PENDING_LIMIT + 1
    assert (rows[-1].outcome, rows[-1].target) == ("not_stored", f"{100_000 - PENDING_LIMIT} more")


def test_refusals_wait_while_the_store_is_away(audit: AuditLog, store: SqliteStore, tmp_path: Path) -> None:
    audit.refused(event(target="first"))
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        failed = audit.flush()
        assert failed is not None
        assert isinstance(failed.exception(5), Unavailable)
    store.write_blocking(lambda tx: None)  # the writer has finished with the failed group
    audit.refused(event(target="second"))
    audit.close()
    assert [row.target for row in stored(store)] == ["first", "second"]


def test_what_callers_name_cannot_forge_a_line_or_fill_the_disk() -> None:
    forged = clean(event(target="x\r\n2026 key.create ok \x1b[31m" + "y" * 1000))
    assert forged.target.startswith(r"x\r\n2026 key.create ok \x1b[31m")
    assert len(forged.target) <= 200
