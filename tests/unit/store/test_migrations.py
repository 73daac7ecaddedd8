"""The schema: the newest version from any older one, whole or not at all."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from pileus.core.errors import OperatorError
from pileus.core.records import Lane
from pileus.store.backup import Source, backup_of_stopped
from pileus.store.migrate import MIGRATIONS
from pileus.store.restore import Restore
from pileus.store.schema import HEAD, metadata
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import ApiKey, KeyTable
from pileus.testing.clock import ManualClock

# Opens the folder in one forked child for each statement of the migration, and kills the child at that statement.
# Prints what each left behind: the number of statements done, and the schema then on disk.
KILLER = """
import json, os, signal, sqlite3, sys
from contextlib import closing
from pathlib import Path
import alembic.command
from sqlalchemy import Engine, event
from pileus.store.sqlite import SqliteStore

def child(folder, fatal):
    done = 0
    @event.listens_for(Engine, "after_cursor_execute")
    def count(*_):
        nonlocal done
        done += 1
        if done == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
    SqliteStore.open(folder)
    os._exit(0)

root, left = Path(sys.argv[1]), []
for fatal in range(1, 100):
    folder = root / str(fatal)
    pid = os.fork()
    if pid == 0:
        child(folder, fatal)
    _, status = os.waitpid(pid, 0)
    with closing(sqlite3.connect(folder / "pileus.db")) as connection:
        left.append([name for name, in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")])
    if not os.WIFSIGNALED(status):
        break
print(json.dumps(left))
"""


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_constant_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_migrations_make_the_schema_that_the_statements_use(store: SqliteStore) -> None:
    differences = store.read_blocking(lambda tx: compare_metadata(MigrationContext.configure(tx), metadata))
    assert differences == []


def test_a_migration_killed_at_any_statement_leaves_the_old_schema_or_the_new(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLER, str(tmp_path)]
    left = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert len(left) > 10, "the migration was not killed at its statements"
    new = {*metadata.tables, "alembic_version", "sqlite_sequence"}
    assert all(set(names) in (set(), new) for names in left)
    assert set(left[-1]) == new


def test_a_killed_migration_is_done_by_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLER.replace("range(1, 100)", "range(9, 10)"), str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    assert tables(tmp_path / "9" / DATABASE_FILE) == set()
    SqliteStore.open(tmp_path / "9").close()
    assert set(metadata.tables) <= tables(tmp_path / "9" / DATABASE_FILE)


# Some rows for every table of the oldest schema that has it: what columns are there, and what is in them.
ROWS: dict[str, dict[str, dict[str, object]]] = {
    "0001": {
        "api_key": {
            "id": "key_1",
            "digest": b"d" * 32,
            "name": "laptop",
            "role": "user",
            "tenant": "acme",
            "created_at": 1.5,
            "created_by": "system",
            "expires_at": 9.5,
            "revoked_at": None,
            "token_budget": 2**62,
            "budget_micros": 0,
        },
        "usage": {
            "sequence": 7,
            "request_id": "req_1",
            "key_id": "key_1",
            "tenant": "acme",
            "deployment": "d",
            "lane": "batch",
            "outcome": "stop",
            "at": 2.5,
            "prompt_tokens": 3,
            "cached_tokens": 2,
            "completion_tokens": 2**40,
            "cost_micros": 10,
            "queue_s": 0.1,
            "prefill_s": 0.2,
            "decode_s": 0.3,
            "total_s": 0.6,
        },
        "usage_total": {"key_id": "key_1", "requests": 1, "tokens": 2**40 + 3, "cost_micros": 10},
        "usage_marker": {"id": 1, "batch": "batch_1"},
        "audit": {
            "sequence": 41,
            "at": 3.5,
            "actor": "system",
            "tenant": "",
            "action": "key.create",
            "target": "key_1 \N{CLOUD}",
            "outcome": "ok",
            "request_id": "",
        },
    },
    "0002": {"api_key": {"lanes": "continuous", "max_priority": 5, "weight": 2.5, "tokens_per_s": 40.0}},
    "0003": {"deployment": {"name": "second", "body": '{"replicas":2}', "changed_at": 4.5, "changed_by": "key_1"}},
    "0004": {
        "file": {
            "id": "file_1",
            "tenant": "acme",
            "key_id": "key_1",
            "filename": "lines.jsonl",
            "purpose": "batch",
            "bytes": 2**33,
            "sha256": "ab",
            "blob": "files/1",
            "created_at": 5.5,
            "expires_at": None,
        },
        "gone_file": {"id": "file_0", "tenant": "acme", "created_at": 5.5, "gone_at": 6.5},
        "upload": {
            "id": "upload_1",
            "tenant": "acme",
            "key_id": "key_1",
            "filename": "lines.jsonl",
            "purpose": "batch",
            "bytes": 7,
            "status": "pending",
            "created_at": 5.5,
            "expires_at": 9.5,
            "file_expires_s": 1.5,
            "file_id": None,
        },
        "upload_part": {"id": "part_1", "upload_id": "upload_1", "bytes": 7, "blob": "files/2", "created_at": 5.5},
        "job": {
            "sequence": 3,
            "id": "job_1",
            "kind": "batch",
            "tenant": "acme",
            "key_id": "key_1",
            "spec": b"{}",
            "needs": "",
            "blobs": "files/1",
            "priority": -3,
            "created_at": 5.5,
            "due_at": 9.5,
            "state": "queued",
            "wish": "",
            "fence": 2,
            "failures": 1,
            "ready_at": 6.5,
            "checkpoint": b"[1]",
            "stage": "running",
            "done": 1,
            "total": 2,
            "result": b"",
            "error_code": "",
            "error": "",
            "started_at": 5.75,
            "finished_at": None,
        },
        "job_line": {"sequence": 9, "job_id": "job_1", "at": 5.75, "level": "info", "text": "goes on \N{CLOUD}"},
        "webhook": {
            "id": "we_1",
            "tenant": "acme",
            "url": "https://example.org/hook",
            "events": "batch.completed",
            "created_at": 5.5,
            "created_by": "key_1",
        },
    },
    "0005": {},
}
RELEASED = sorted(ROWS)[:-1]  # schemas that a database out there may have


def rows_at(revision: str) -> dict[str, dict[str, object]]:
    """A row for each table of that schema."""
    found: dict[str, dict[str, object]] = {}
    for each in sorted(ROWS):
        if each <= revision:
            for table, columns in ROWS[each].items():
                found[table] = found.get(table, {}) | columns
    return found


def make_database(folder: Path, revision: str) -> None:
    """A folder as that version left it, with a row in every table."""
    folder.mkdir(exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{folder / DATABASE_FILE}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for table, row in rows_at(revision).items():
            names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)
    engine.dispose()


def kept(folder: Path, revision: str) -> dict[str, dict[str, object]]:
    """What is in the columns that the old schema had already."""
    found: dict[str, dict[str, object]] = {}
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        for table, row in rows_at(revision).items():
            [values] = connection.execute(f"SELECT {', '.join(row)} FROM {table}").fetchall()
            found[table] = dict(zip(row, values, strict=True))
    return found


def structure(folder: Path) -> dict[str, object]:
    """Every table's columns, and every index, as SQLite understands them: its text keeps how a table came about."""
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        objects = connection.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY name").fetchall()
        found: dict[str, object] = {"objects": objects}
        for kind, name, _ in objects:
            pragma = "table_xinfo" if kind == "table" else "index_xinfo"
            found[name] = connection.execute(f"PRAGMA {pragma}({name})").fetchall()
            if kind == "table":
                [(sql,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
                found[f"{name} numbers its rows for good"] = "AUTOINCREMENT" in sql
                listed = connection.execute(f"PRAGMA index_list({name})")
                found[f"{name} indexes"] = sorted(row[1:] for row in listed)
        return found


def test_every_schema_has_its_rows_here() -> None:
    scripts = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("*.py"))
    assert scripts == sorted(ROWS)
    assert set(rows_at(RELEASED[-1])) <= set(metadata.tables)


@pytest.mark.parametrize("revision", RELEASED)
def test_rows_of_every_table_of_an_older_schema_are_kept(tmp_path: Path, revision: str) -> None:
    make_database(tmp_path, revision)
    old = tables(tmp_path / DATABASE_FILE) - {"alembic_version", "sqlite_sequence"}
    assert old == set(rows_at(revision)), "a table of that schema has no row here"
    SqliteStore.open(tmp_path).close()
    assert kept(tmp_path, revision) == rows_at(revision)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        columns = "at, actor, tenant, action, target, outcome, request_id"
        connection.execute(f"INSERT INTO audit ({columns}) VALUES (1, '', '', '', '', '', '')")
        assert connection.execute("SELECT max(sequence) FROM audit").fetchone() == (42,)


@pytest.mark.parametrize("revision", RELEASED)
def test_an_older_database_has_the_same_schema_afterwards_as_a_new_one(tmp_path: Path, revision: str) -> None:
    make_database(tmp_path / "old", revision)
    for folder in (tmp_path / "old", tmp_path / "new"):
        store = SqliteStore.open(folder)
        differences = store.read_blocking(
            lambda tx: compare_metadata(MigrationContext.configure(tx, opts={"compare_server_default": True}), metadata)
        )
        store.close()
        assert differences == []
    assert structure(tmp_path / "old") == structure(tmp_path / "new")


def test_a_key_of_the_first_version_comes_with_the_usual_rights(tmp_path: Path) -> None:
    make_database(tmp_path, "0001")
    store = SqliteStore.open(tmp_path)
    [(digest, key)] = store.read_blocking(KeyTable().all)
    store.close()
    assert digest == b"d" * 32
    assert key == ApiKey(
        id="key_1",
        name="laptop",
        role="user",
        tenant="acme",
        created_at=1.5,
        created_by="system",
        expires_at=9.5,
        token_budget=2**62,
        budget_micros=0,
        lanes=(Lane.ON_DEMAND, Lane.BATCH),
        max_priority=0,
        weight=1.0,
        tokens_per_s=0.0,
    )


@pytest.mark.parametrize("revision", RELEASED)
def test_a_backup_of_an_older_folder_keeps_its_schema_and_is_migrated_where_it_is_started(
    tmp_path: Path, revision: str
) -> None:
    data, archive, again = tmp_path / "data", tmp_path / "old.tar", tmp_path / "again"
    make_database(data, revision)
    source = Source(data_dir=data, version="0.1.0", files=(), models="models")
    with backup_of_stopped(source, ManualClock(1.0)) as backup:
        archive.write_bytes(b"".join(backup.pieces()))
    manifest = Restore(archive, files=frozenset(), folders=frozenset()).run(again, lambda *_: None)
    assert manifest.schema == revision
    assert kept(again, revision) == rows_at(revision)
    SqliteStore.open(again).close()
    assert kept(again, revision) == rows_at(revision)
    assert structure(again) == structure(fresh(tmp_path / "new"))
    with closing(sqlite3.connect(data / DATABASE_FILE)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


def fresh(folder: Path) -> Path:
    SqliteStore.open(folder).close()
    return folder


def test_a_start_with_a_current_schema_does_not_load_the_migrations(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    script = (
        "import sys; from pathlib import Path; from pileus.store.sqlite import SqliteStore; "
        f"SqliteStore.open(Path({str(tmp_path)!r})).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_folder_from_a_newer_pileus_is_left_alone(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(OperatorError, match="schema 9999, this one knows") as caught:
        SqliteStore.open(tmp_path)
    assert "\n" not in caught.value.message
