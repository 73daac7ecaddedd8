"""What a command does without a server."""

import shutil
from pathlib import Path

import pytest

from pileus.bootstrap.local import check, own
from pileus.config.load import Loaded, load_settings
from pileus.config.settings import Settings
from pileus.core.errors import ConfigError
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


def loaded(tmp_path: Path, lines: str) -> Loaded:
    file = tmp_path / "pileus.toml"
    file.write_text(f'[[deployment]]\nname = "x"\n{lines}')
    return load_settings(file, {}, {"data_dir": tmp_path / "data"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('model = "fake"\nengine = "fale"', ":4: deployment.x.engine: there is no engine 'fale'; did you mean `fake`?"),
        ('model = "all-minilm-l6-v2"\nengine = "native"', ":4: deployment.x.engine: the engine native cannot run"),
        ('model = "elsewhere"\nengine = "nativ"', ":4: deployment.x.engine: there is no engine 'nativ'"),
        (
            'model = "elsewhere"\nengine = "native"\noptions = { kv = 1 }',
            "5: deployment.x.options.kv: unknown setting",
        ),
        ('model = "all-minilm-l6-v2"\noptions = { kv_bytes = 1 }', "unknown setting; known here: `"),
    ],
)
def test_a_deployment_that_no_engine_can_run_is_told_with_its_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        check(loaded(tmp_path, lines))
    assert message in told.value.message


def test_a_model_that_is_not_here_yet_may_be_named(tmp_path: Path) -> None:
    check(loaded(tmp_path, 'model = "elsewhere"\noptions = { kv = 1 }'))
    assert not (tmp_path / "data").exists()
