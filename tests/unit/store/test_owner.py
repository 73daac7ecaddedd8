"""One owner of a data folder, and one line to say why it cannot be owned."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pileus.core.errors import OperatorError
from pileus.store.owner import LOCK_FILE, OwnerLock, cannot_write, is_owned
from pileus.store.sqlite import DATABASE_FILE, SqliteStore


def test_a_second_owner_is_told_who_the_first_is_and_what_to_do(tmp_path: Path) -> None:
    lock = OwnerLock.take(tmp_path)
    with pytest.raises(OperatorError) as caught:
        OwnerLock.take(tmp_path)
    assert caught.value.message == (
        f"another Pileus (pid {os.getpid()}) owns {tmp_path}; stop it, or use another folder with --data"
    )
    lock.release()


def test_a_released_folder_can_be_owned_again(tmp_path: Path) -> None:
    OwnerLock.take(tmp_path).release()
    OwnerLock.take(tmp_path).release()


def test_who_only_looks_writes_nothing_and_sees_who_owns_the_folder(tmp_path: Path) -> None:
    assert not is_owned(tmp_path)
    assert list(tmp_path.iterdir()) == []
    lock = OwnerLock.take(tmp_path)
    before = (tmp_path / LOCK_FILE).stat().st_mtime_ns
    assert is_owned(tmp_path)
    lock.release()
    assert not is_owned(tmp_path)
    assert (tmp_path / LOCK_FILE).stat().st_mtime_ns == before


def test_who_only_looks_keeps_nobody_from_owning_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OwnerLock.take(tmp_path).release()
    looking = os.open(tmp_path / LOCK_FILE, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(looking))  # it is gone a moment later
    lock = OwnerLock.take(tmp_path)
    assert is_owned(tmp_path)
    lock.release()


def test_the_lock_goes_with_its_process_however_that_ends(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from pileus.store.owner import OwnerLock\n"
        "OwnerLock.take(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / LOCK_FILE).exists()
    OwnerLock.take(tmp_path).release()


def test_a_start_that_fails_gives_the_folder_up(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"this is not a database, and it is long enough to be read as one" * 20)
    for _ in range(2):
        with pytest.raises(OperatorError, match="file is not a database"):
            SqliteStore.open(tmp_path)


def test_an_unwritable_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError) as caught:
        SqliteStore.open(tmp_path / "file" / "data")
    assert caught.value.message == (
        f"cannot write to {tmp_path}/file/data: Not a directory; make it writable, or use another folder with --data"
    )


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    message = cannot_write(tmp_path, OSError(28, "No space left on device")).message
    assert message == f"no space left for {tmp_path}; free some, or use another folder with --data"


def test_nobody_else_can_read_the_folder_and_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    SqliteStore.open(folder).close()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
