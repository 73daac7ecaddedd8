"""`pileus backup` and `pileus restore`, against a scripted server and against folders."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pileus.cli.progress import Bars
from pileus.security.service import Security
from pileus.store.backup import prepare
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.testing.clock import ManualClock
from unit.cli.conftest import Pileus, Stub


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A stopped data folder."""
    folder = tmp_path / "data"
    store = SqliteStore.open(folder)
    Security.open(folder, store, ManualClock(1.0)).close()
    store.close()
    return folder


def test_a_stopped_folder_goes_into_a_file_and_comes_out_of_it(pileus: Pileus, data: Path, tmp_path: Path) -> None:
    archive, again = tmp_path / "monday.tar", tmp_path / "again"
    made = pileus("backup", str(archive), "--data", str(data))
    assert (made.status, made.err) == (0, "")
    assert "2 files" in made.out
    assert "Keep it secret" in made.out
    assert archive.stat().st_mode & 0o077 == 0
    ran = pileus("restore", str(archive), "--data", str(again), "--json")
    assert ran.status == 0
    assert ran.json()["files"] == 2
    assert (again / "pepper").read_bytes() == (data / "pepper").read_bytes()
    assert (again / DATABASE_FILE).exists()


def test_paths_may_be_relative(pileus: Pileus, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pileus("backup", "monday.tar", "--data", "data").status == 0
    assert pileus("restore", "monday.tar", "--data", "again").status == 0
    assert (data.parent / "again" / DATABASE_FILE).exists()


def test_a_file_that_exists_is_not_overwritten(pileus: Pileus, data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "monday.tar"
    archive.write_text("precious")
    ran = pileus("backup", str(archive), "--data", str(data))
    assert ran.status == 1
    assert "exists" in ran.err
    assert archive.read_text() == "precious"


def test_a_copy_that_takes_long_shows_that_it_goes_on(
    pileus: Pileus, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = threading.Event()

    class Watched(Bars):
        def __call__(self, stage: str, done: int, total: int) -> None:
            super().__call__(stage, done, total)
            if self._drawing:
                drawn.set()

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert drawn.wait(10)
        return prepare(*args, **kwargs)

    monkeypatch.setattr("pileus.cli.backup._PATIENCE_S", 0.05)
    monkeypatch.setattr("pileus.cli.backup.Bars", Watched)
    monkeypatch.setattr("pileus.store.backup.prepare", slow)
    ran = pileus("backup", str(tmp_path / "monday.tar"), "--data", str(data))
    assert ran.status == 0
    assert ran.err.startswith("Preparing ...\n")


def test_what_the_server_refuses_is_told_and_leaves_no_file(pileus: Pileus, stub: Stub, tmp_path: Path) -> None:
    stub.refuse("GET", "/admin/v1/backup?models=true", 403, "This key's role, user, lacks the permission backup.")
    ran = pileus("backup", str(tmp_path / "monday.tar"), "--models")
    assert (ran.status, ran.err) == (1, "pileus: This key's role, user, lacks the permission backup.\n")
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_no_whole_backup_leaves_no_file(pileus: Pileus, stub: Stub, tmp_path: Path) -> None:
    stub.answers["GET", "/admin/v1/backup?models=false"] = (200, "x" * 600)
    ran = pileus("backup", str(tmp_path / "monday.tar"))
    assert ran.status == 1
    assert "no backup" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_restore_into_a_folder_in_use_is_refused_in_one_line(pileus: Pileus, data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "monday.tar"
    pileus("backup", str(archive), "--data", str(data))
    ran = pileus("restore", str(archive), "--data", str(data))
    assert (ran.status, ran.err) == (1, f"pileus: {data} is not empty: name a new folder with --data\n")


def test_contents_that_are_missing_are_told(pileus: Pileus, data: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(data)
    statement = "INSERT INTO upload_part (id, upload_id, bytes, blob, created_at) VALUES ('p', 'u', 3, 'parts/p', 1.0)"
    store.write_blocking(lambda tx: tx.exec_driver_sql(statement))
    store.close()
    ran = pileus("backup", str(tmp_path / "monday.tar"), "--data", str(data))
    assert ran.status == 0
    assert ran.err == "1 contents are missing from the data folder, e.g. parts/p.\n"
