"""What a command does without a server."""

import shutil
from pathlib import Path

from pileus.bootstrap.local import own
from pileus.config.settings import Settings
from pileus.store.port import Store
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable


def audited(store: Store) -> list[tuple[str, str]]:
    return [(event.action, event.target) for _, event in store.read_blocking(lambda tx: AuditTable().latest(tx, 10))]


def test_an_unfinished_write_that_was_dropped_is_on_record(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    store = SqliteStore.open(tmp_path / "data")
    store.write_blocking(lambda tx: tx.exec_driver_sql("INSERT INTO usage_marker (id, batch) VALUES (1, 'a')"))
    for name in (DATABASE_FILE, f"{DATABASE_FILE}-wal"):
        shutil.copy(tmp_path / "data" / name, crashed)
    store.close()
    log = crashed / f"{DATABASE_FILE}-wal"
    log.write_bytes(log.read_bytes() + b"torn")
    settings = Settings(data_dir=crashed)
    with own(settings):
        pass
    with own(settings) as (again, _):
        assert audited(again) == [("store.recover", "4 bytes of an unfinished write dropped")]
