"""FAULTS 18, 20 and 22 for contents: a full disk, a disk that fails, and a power cut in the middle of a rename."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from pileus.core.errors import Unavailable
from pileus.store.local_blobs import LocalBlobs
from unit.api.bench import Bench, edge_bench

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    folder = request.getfixturevalue("small_disk") if "small_disk" in request.fixturenames else tmp_path
    async with edge_bench(folder / "data") as found:
        yield found


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=bench.bearer()) as found:
        yield found


async def store(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post("/v1/files", files={"file": ("a.bin", content)}, data={"purpose": "user_data"})


def left(bench: Bench) -> list[str]:
    """What lies in the blob store, drafts included."""
    folder = bench.services.settings.data_dir / "blobs"
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def fill(disk: Path) -> Path:
    ball = disk / "ballast"
    with ball.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ball


@pytest.mark.fault(18, "tmpfs of 8 MiB, filled by an upload", "503, nothing half, reads work, recovers by itself")
async def test_18_an_upload_that_fills_the_disk_is_refused_and_leaves_nothing(
    small_disk: Path, bench: Bench, client: httpx.AsyncClient
) -> None:
    before = (await store(client, b"before")).json()
    refused = await store(client, bytes(12 * MIB))
    assert refused.status_code == 503
    assert "no space is left" in refused.json()["error"]["message"]
    assert "retry-after" in refused.headers
    assert left(bench) == [f"files/{before['id']}"]
    assert (await client.get(f"/v1/files/{before['id']}/content")).content == b"before"
    assert [file["id"] for file in (await client.get("/v1/files")).json()["data"]] == [before["id"]]
    assert (await store(client, bytes(4 * MIB))).status_code == 200


@pytest.mark.fault(18, "tmpfs of 8 MiB, full", "uploads and parts get 503, recovers by itself")
async def test_18_on_a_full_disk_nothing_is_stored_until_there_is_room_again(
    small_disk: Path, bench: Bench, client: httpx.AsyncClient
) -> None:
    wish = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "user_data"}
    upload = (await client.post("/v1/uploads", json=wish)).json()
    ballast = fill(small_disk)
    assert (await store(client, b"abc")).status_code == 503
    assert (await client.post(f"/v1/uploads/{upload['id']}/parts", files={"data": b"abc"})).status_code == 503
    assert left(bench) == []
    ballast.unlink()
    assert (await store(client, b"abc")).status_code == 200
    part = (await client.post(f"/v1/uploads/{upload['id']}/parts", files={"data": b"abc"})).json()
    done = await client.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]})
    assert done.json()["status"] == "completed"


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5], ids=["above", "drafts", "content", "new folder", "name"])
@pytest.mark.fault(20, "fsync fails with EIO", "503; given up, never synced again, nothing left; the next one works")
async def test_20_a_failed_fsync_is_never_tried_again_and_trusted(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    real, calls = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == which:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr("pileus.store.local_blobs.os.fsync", failing)
    refused = await store(client, b"abc")
    assert refused.status_code == 503
    assert calls == which
    assert left(bench) == []
    assert (await client.get("/v1/files")).json()["data"] == []
    made = (await store(client, b"abc")).json()
    assert left(bench) == [f"files/{made['id']}"]


@pytest.mark.fault(20, "write fails with EIO", "the draft is given up for good")
async def test_20_a_draft_that_failed_once_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = await LocalBlobs(tmp_path).create("files/a")
    await draft.write(bytes(MIB))

    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("pileus.store.local_blobs.os.write", failing)
    with pytest.raises(Unavailable, match="Input/output error"):
        await draft.write(bytes(MIB))
    monkeypatch.undo()
    for ask in (draft.write(bytes(MIB)), draft.commit()):
        with pytest.raises(Unavailable, match="given up"):
            await ask
    assert list(tmp_path.glob("**/draft_*")) == []  # noqa: ASYNC240


@pytest.mark.fault(
    22, "what the disk was told, in order", "the content is synced before its name, the name before the answer"
)
async def test_22_a_content_is_on_the_disk_before_its_name_and_its_name_before_anyone_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real_sync, real_write, real_rename = os.fsync, os.write, Path.rename

    def sync(descriptor: int) -> None:
        told.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_sync(descriptor)

    def write(descriptor: int, data: Any) -> int:
        told.append("write")
        return real_write(descriptor, data)

    def rename(draft: Path, target: Path) -> Path:
        told.append(f"rename to {target.name}")
        return real_rename(draft, target)

    monkeypatch.setattr("pileus.store.local_blobs.os.fsync", sync)
    monkeypatch.setattr("pileus.store.local_blobs.os.write", write)
    monkeypatch.setattr(Path, "rename", rename)
    blobs = LocalBlobs(tmp_path / "blobs")
    for key in ("files/a", "files/b"):
        draft = await blobs.create(key)
        await draft.write(b"x")
        await draft.commit()
        told.append("told")
    told = [re.sub("draft_.*", "the draft", step) for step in told]
    folders = [f"sync {tmp_path.name}", "sync blobs"]
    assert told == [
        *folders,
        "write",
        "sync the draft",
        "sync blobs",
        "rename to a",
        "sync files",
        "told",
        "write",
        "sync the draft",
        "rename to b",
        "sync files",
        "told",
    ]
