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
from pileus.store.migrate import MIGRATIONS
from pileus.store.schema import HEAD, metadata
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import ApiKey, KeyTable

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


@pytest.fixture
def first_floor(tmp_path: Path) -> Path:
    """A database as the first version left it, with a key in it."""
    path = tmp_path / DATABASE_FILE
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO api_key (id, digest, name, role, tenant, created_at, created_by, token_budget) "
                "VALUES ('key_1', :digest, 'laptop', 'user', 'acme', 1.5, 'system', 500)"
            ),
            {"digest": b"d" * 32},
        )
    engine.dispose()
    return tmp_path


def test_a_key_of_the_first_version_comes_with_the_usual_rights(first_floor: Path) -> None:
    store = SqliteStore.open(first_floor)
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
        token_budget=500,
        lanes=(Lane.ON_DEMAND, Lane.BATCH),
        max_priority=0,
        weight=1.0,
        tokens_per_s=0.0,
    )


def test_an_old_database_has_the_same_schema_afterwards_as_a_new_one(first_floor: Path) -> None:
    store = SqliteStore.open(first_floor)
    differences = store.read_blocking(
        lambda tx: compare_metadata(MigrationContext.configure(tx, opts={"compare_server_default": True}), metadata)
    )
    store.close()
    assert differences == []


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
