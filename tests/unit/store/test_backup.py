"""A backup is consistent while the folder is written to, and what is restored is what was backed up, or nothing."""

import asyncio
import hashlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from pileus.core.errors import OperatorError, Unavailable
from pileus.core.records import AuditEvent
from pileus.store import schema
from pileus.store.archive import MANIFEST, Manifest, Reader, Sealed, header, padding, seal
from pileus.store.backup import Backups, Source, backup_of_stopped, prepare
from pileus.store.owner import LOCK_FILE
from pileus.store.restore import WORK_FOLDER, Restore
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock

audit = AuditTable()
CONTENT = b"cloud\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PEPPER = b"p" * 32


def put(target: str, tx: Connection) -> None:
    audit.insert(tx, [AuditEvent(at=1.0, actor="a", tenant="t", action="x", target=target)])


def targets(data_dir: Path) -> list[str]:
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [target for (target,) in connection.execute("SELECT target FROM audit ORDER BY sequence")]


def name_contents(tx: Connection) -> None:
    """Rows of a file, an upload's part and a job, with the contents that they name."""
    tx.execute(
        insert(schema.file).values(
            id="file_1",
            tenant="t",
            key_id="k",
            filename="../../etc/passwd",
            purpose="batch",
            bytes=len(CONTENT),
            sha256=SHA256,
            blob="files/file_1",
            created_at=1.0,
        )
    )
    tx.execute(
        insert(schema.upload_part).values(id="part_1", upload_id="u", bytes=3, blob="parts/part_1", created_at=1.0)
    )
    job = dict.fromkeys(("kind", "tenant", "key_id", "needs", "state", "wish", "stage", "error_code", "error"), "")
    numbers = dict.fromkeys(("priority", "created_at", "fence", "failures", "ready_at", "done", "total"), 0)
    blank = dict.fromkeys(("spec", "checkpoint", "result"), b"")
    tx.execute(insert(schema.job).values(id="job_1", blobs="files/file_1,jobs/out_1", **job, **numbers, **blank))


def lay(data_dir: Path, name: str, content: bytes) -> None:
    path = data_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A stopped data folder with a bit of everything."""
    folder = tmp_path / "data"
    store = SqliteStore.open(folder)
    store.write_blocking(name_contents)
    store.write_blocking(partial(put, "before"))
    store.close()
    lay(folder, "pepper", PEPPER)
    lay(folder, "blobs/files/file_1", CONTENT)
    lay(folder, "blobs/parts/part_1", b"abc")
    lay(folder, "blobs/jobs/out_1", b"")
    lay(folder, "blobs/files/nobodys", b"x")
    lay(folder, "jobs/job_1/deep/lines", b"1\n2\n")
    lay(folder, "jobs/job_gone/lines", b"x")
    lay(folder, "models/artefacts/m/weights", b"w" * 2_000_000)
    return folder


def source(data_dir: Path) -> Source:
    return Source(data_dir=data_dir, version="1.2.3", files=("pepper",), models="models/artefacts")


def archive_of(data_dir: Path, *, models: bool = False) -> bytes:
    with backup_of_stopped(source(data_dir), ManualClock(1000.0), models=models) as backup:
        return b"".join(backup.pieces())


def restorer(path: Path) -> Restore:
    return Restore(path, files=frozenset({"pepper"}), folders=frozenset({"models"}))


def silent(stage: str, done: int, total: int) -> None:
    pass


def restored(tmp_path: Path, content: bytes) -> Path:
    archive, folder = tmp_path / "backup.tar", tmp_path / "again"
    archive.write_bytes(content)
    restorer(archive).run(folder, silent)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_what_the_rows_name_comes_back_and_nothing_else(tmp_path: Path, data_dir: Path) -> None:
    folder = restored(tmp_path, archive_of(data_dir))
    found = files(folder)
    assert targets(folder) == ["before"]
    del found[DATABASE_FILE], found[LOCK_FILE]
    assert found == {
        "pepper": PEPPER,
        "blobs/files/file_1": CONTENT,
        "blobs/parts/part_1": b"abc",
        "blobs/jobs/out_1": b"",
        "jobs/job_1/deep/lines": b"1\n2\n",
    }


def test_models_come_along_when_they_are_asked_for(tmp_path: Path, data_dir: Path) -> None:
    assert (
        files(restored(tmp_path, archive_of(data_dir, models=True)))["models/artefacts/m/weights"] == b"w" * 2_000_000
    )


def test_tar_can_read_it(data_dir: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(data_dir))) as archive:
        names = archive.getnames()
        pepper = archive.extractfile("pepper")
        assert pepper is not None
        assert pepper.read() == PEPPER
    assert names[0] == DATABASE_FILE
    assert names[-2:] == ["manifest.json", "manifest.sha256"]


def test_nobody_else_can_read_what_is_restored(tmp_path: Path, data_dir: Path) -> None:
    folder = restored(tmp_path, archive_of(data_dir))
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*") if path.is_file())


def test_contents_that_are_elsewhere_or_changed_are_told(data_dir: Path) -> None:
    (data_dir / "blobs" / "parts" / "part_1").unlink()
    lay(data_dir, "blobs/files/file_1", CONTENT[:-1] + b"X")
    reader = Reader(io.BytesIO(archive_of(data_dir)))
    for member in reader.members():
        list(member.pieces())
    assert reader.manifest is not None
    assert reader.manifest.absent == ("parts/part_1",)
    assert reader.manifest.damaged == ("files/file_1",)


def test_a_file_that_grows_meanwhile_is_copied_as_it_was(tmp_path: Path, data_dir: Path) -> None:
    with closing(prepare(source(data_dir), 1.0, models=False)) as backup:
        log = data_dir / "jobs" / "job_1" / "deep" / "lines"
        pieces = []
        for piece in backup.pieces():
            pieces.append(piece)
            with log.open("ab") as file:
                file.write(b"3\n")
    lines = files(restored(tmp_path, b"".join(pieces)))["jobs/job_1/deep/lines"]
    assert lines.startswith(b"1\n2\n3\n")
    assert log.read_bytes().startswith(lines)
    assert len(lines) < log.stat().st_size


def test_about_as_many_bytes_are_announced_as_come(data_dir: Path) -> None:
    with closing(prepare(source(data_dir), 1.0, models=True)) as backup:
        came = sum(map(len, backup.pieces()))
    assert backup.total <= came <= backup.total + 30_000


def test_a_long_name_comes_back(tmp_path: Path, data_dir: Path) -> None:
    name = "jobs/job_1/" + "/".join(["n" * 60] * 4)
    lay(data_dir, name, b"x")
    assert files(restored(tmp_path, archive_of(data_dir)))[name] == b"x"


# --- while the folder is written to ----------------------------------------------------------------------------------


def test_everything_acknowledged_before_it_began_is_in_it_while_the_writer_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = SqliteStore.open(data)
    lay(data, "pepper", PEPPER)
    store.write_blocking(lambda tx: tx.execute(insert(schema.deployment), [_bulk(n) for n in range(5000)]))
    acknowledged: list[str] = []
    meanwhile = 0
    stopping = threading.Event()

    def write_at_full_speed() -> None:
        for n in count():
            if stopping.is_set():
                return
            store.write_blocking(partial(put, str(n)))
            acknowledged.append(str(n))

    writer = threading.Thread(target=write_at_full_speed)
    writer.start()
    try:
        for attempt in range(30):
            if attempt >= 5 and meanwhile:  # a copy may be quicker than a write
                break
            before = list(acknowledged)
            with closing(prepare(source(data), 1.0, models=False)) as backup:
                content = b"".join(backup.pieces())
            meanwhile += len(acknowledged) - len(before)
            place = tmp_path / str(attempt)
            place.mkdir()
            found = targets(restored(place, content))
            assert found[: len(before)] == before
            assert found == [str(n) for n in range(len(found))], "a write is half there, or out of order"
    finally:
        stopping.set()
        writer.join()
        store.close()
    assert meanwhile, "nothing was written while the backups were made"


def _bulk(n: int) -> dict[str, object]:
    """A row of a page."""
    return {"name": str(n), "body": "x" * 4000, "changed_at": 1.0, "changed_by": "k"}


def test_a_killed_owner_leaves_a_folder_that_can_be_backed_up_with_all_that_it_acknowledged(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from pileus.core.records import AuditEvent\n"
        "from pileus.store.sqlite import SqliteStore; from pileus.store.tables import AuditTable\n"
        "event = AuditEvent(at=1.0, actor='a', tenant='t', action='x', target='before')\n"
        "SqliteStore.open(Path(sys.argv[1])).write_blocking(lambda tx: AuditTable().insert(tx, [event]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    data = tmp_path / "data"
    assert subprocess.run([sys.executable, "-c", script, str(data)], check=False).returncode == -9
    lay(data, "pepper", PEPPER)
    (data / f"{DATABASE_FILE}-shm").unlink()
    assert targets(restored(tmp_path, archive_of(data))) == ["before"]


async def test_contents_are_held_from_before_the_copy_until_the_end_and_one_is_made_at_a_time(data_dir: Path) -> None:
    held: list[bool] = []

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        held.append(True)
        yield
        held.append(False)

    backups = Backups(source(data_dir), hold, ManualClock(1.0))
    async with backups.make() as backup:
        assert held == [True]
        with pytest.raises(Unavailable, match="Another backup"):
            async with backups.make():
                pass
        assert b"".join(backup.pieces())
    assert held == [True, False]
    async with backups.make():
        pass


async def test_a_caller_that_leaves_during_the_copy_leaves_nothing_behind(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> object:
        begun.set()
        go.wait(5)
        made = prepare(*args, **kwargs)  # type: ignore[arg-type]
        monkeypatch.setattr(made, "close", lambda: (made.__class__.close(made), ended.set()))
        return made

    monkeypatch.setattr("pileus.store.backup.prepare", slow)
    backups = Backups(source(data_dir), nullcontext, ManualClock(1.0))

    async def make() -> None:
        async with backups.make():
            raise AssertionError("it was left before")

    making = asyncio.create_task(make())
    await asyncio.to_thread(begun.wait, 5)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    go.set()
    assert await asyncio.to_thread(ended.wait, 5)
    assert not [name for name in files(data_dir) if name.startswith("backup.")]


def test_what_a_killed_backup_left_behind_is_removed_by_the_next(data_dir: Path) -> None:
    lay(data_dir, "backup.killed/pileus.db", b"x")
    archive_of(data_dir)
    assert not list(data_dir.glob("backup.*"))


# --- what cannot be backed up ----------------------------------------------------------------------------------------


def test_a_folder_that_a_server_owns_is_told_to_be_asked_for_from_the_server(data_dir: Path) -> None:
    store = SqliteStore.open(data_dir)
    with pytest.raises(OperatorError, match="another Pileus"):
        archive_of(data_dir)
    store.close()


def test_a_folder_without_a_database_is_told_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no data folder of Pileus"):
        archive_of(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_damaged_database_makes_no_backup(data_dir: Path) -> None:
    path = data_dir / DATABASE_FILE
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 4 * 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(Unavailable, match="cannot be copied"):
        archive_of(data_dir)


# --- what cannot be restored -----------------------------------------------------------------------------------------


def refused(tmp_path: Path, content: bytes) -> str:
    """Why; nothing may be left behind."""
    with pytest.raises(OperatorError) as caught:
        restored(tmp_path, content)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "again").exists()
    return caught.value.message


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, data_dir: Path) -> None:
    whole = archive_of(data_dir)
    cuts = {*range(0, len(whole), 4099), *range(0, len(whole), 512), *range(len(whole) - 1100, len(whole))}
    for cut in [*sorted(cuts)[::7], len(whole) - 1]:
        assert "archive" in refused(tmp_path, whole[:cut])


def test_an_archive_with_any_byte_changed_is_refused(tmp_path: Path, data_dir: Path) -> None:
    whole = archive_of(data_dir)
    for place in [*range(0, len(whole), 1777), *range(len(whole) - 3000, len(whole), 13)]:
        changed = bytearray(whole)
        changed[place] ^= 0x20
        refused(tmp_path, bytes(changed))


def test_an_archive_with_something_behind_its_end_is_refused(tmp_path: Path, data_dir: Path) -> None:
    assert "behind its end" in refused(tmp_path, archive_of(data_dir) + b"x")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x1f\x8b" + b"z" * 2000, bytes(10240)],
    ids=["empty", "text", "gzip", "zeros"],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content).startswith(("this is no backup", "the archive"))


def test_a_foreign_tar_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("photo.jpg"))
    assert "it begins with 'photo.jpg'" in refused(tmp_path, out.getvalue())


def forged(*members: tuple[str, bytes], change: Callable[[Manifest], Manifest] = lambda same: same) -> bytes:
    """An archive that is sealed properly."""
    body, sealed = b"", []
    for name, content in members:
        body += header(name, len(content), 1.0) + content + padding(len(content))
        sealed.append(Sealed(name, len(content), hashlib.sha256(content).hexdigest()))
    manifest = Manifest(pileus="9.9.9", schema=schema.HEAD, made_at=1.0, members=tuple(sealed))
    return body + b"".join(seal(change(manifest)))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/x",
        "../x",
        "blobs/../../x",
        "blobs//x",
        "blobs/./x",
        "blobs/x\n",
        "blobs/...",
        "blobs",
        "owner.lock",
        "secrets/x",
        "blobs/x\\..\\y",
        "blobs/\N{LATIN SMALL LETTER E WITH ACUTE}",
    ],
)
def test_a_name_that_is_no_plain_path_below_a_known_folder_is_refused(tmp_path: Path, name: str) -> None:
    members = [(DATABASE_FILE, b"d"), ("pepper", PEPPER), (name, b"x")]
    assert "no backup" in refused(tmp_path, forged(*members))
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("blobs/x")
    link.type, link.linkname = kind, "/etc/passwd"
    begin = header(DATABASE_FILE, 0, 1.0)
    assert "no plain file" in refused(tmp_path, begin + link.tobuf(tarfile.GNU_FORMAT) + forged(("pepper", PEPPER)))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    assert "twice" in refused(tmp_path, forged((DATABASE_FILE, b"d"), ("pepper", PEPPER), ("pepper", PEPPER)))


def test_an_archive_without_the_pepper_is_refused(tmp_path: Path) -> None:
    assert "it has no pepper" in refused(tmp_path, forged((DATABASE_FILE, b"d")))


def test_a_backup_from_a_newer_pileus_names_its_version(tmp_path: Path) -> None:
    def newer(manifest: Manifest) -> Manifest:
        return Manifest(pileus="9.9.9", schema="9999", made_at=1.0, members=manifest.members)

    message = refused(tmp_path, forged((DATABASE_FILE, b"d"), ("pepper", PEPPER), change=newer))
    assert "9.9.9, schema 9999" in message


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, data_dir: Path) -> None:
    archive = tmp_path / "backup.tar"
    archive.write_bytes(archive_of(data_dir))
    before = files(data_dir)
    with pytest.raises(OperatorError, match="is not empty"):
        restorer(archive).run(data_dir, silent)
    assert files(data_dir) == before


def test_a_folder_that_was_used_while_the_archive_was_checked_is_left_alone(tmp_path: Path, data_dir: Path) -> None:
    archive, folder = tmp_path / "backup.tar", tmp_path / "again"
    archive.write_bytes(archive_of(data_dir))

    def begin_a_new_one(stage: str, done: int, total: int) -> None:
        if done == total and not folder.exists():
            store = SqliteStore.open(folder)
            store.write_blocking(partial(put, "new"))
            store.close()

    with pytest.raises(OperatorError, match="is not empty"):
        restorer(archive).run(folder, begin_a_new_one)
    assert targets(folder) == ["new"]


def test_an_empty_folder_that_was_there_is_filled_and_may_be_a_mount_point(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "again"
    (folder / "lost+found").mkdir(parents=True)
    archive = tmp_path / "backup.tar"
    archive.write_bytes(archive_of(data_dir))
    restorer(archive).run(folder, silent)
    assert targets(folder) == ["before"]


KILLED_RESTORE = """
import os, signal, sys
from pathlib import Path
from pileus.store import restore

place, left = sys.argv[3], int(sys.argv[4])
target = restore if place == "_write" else Path

def dying(*arguments, work=getattr(target, place)):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return work(*arguments)

setattr(target, place, dying)
again = restore.Restore(Path(sys.argv[1]), files=frozenset({"pepper"}), folders=frozenset({"models"}))
again.run(Path(sys.argv[2]), lambda *_: None)
"""


@pytest.mark.parametrize(("place", "times"), [("_write", 6), ("rename", 4)])
def test_a_restore_killed_anywhere_leaves_no_database_and_can_be_done_again(
    tmp_path: Path, data_dir: Path, place: str, times: int
) -> None:
    archive, folder = tmp_path / "backup.tar", tmp_path / "again"
    archive.write_bytes(archive_of(data_dir))
    for done in range(times):
        command = [sys.executable, "-c", KILLED_RESTORE, str(archive), str(folder), place, str(done)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert not (folder / DATABASE_FILE).exists()
        assert (folder / WORK_FOLDER).exists()
    restorer(archive).run(folder, silent)
    assert targets(folder) == ["before"]
    assert not (folder / WORK_FOLDER).exists()


def test_a_manifest_lists_every_file_with_its_digest(data_dir: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(data_dir))) as archive:
        manifest = archive.extractfile(MANIFEST)
        assert manifest is not None
        text = manifest.read().decode()
    assert f'"name":"blobs/files/file_1","bytes":{len(CONTENT)},"sha256":"{SHA256}"' in text
    assert f'"schema":"{schema.HEAD}"' in text
