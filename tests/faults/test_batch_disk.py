"""FAULT 18 for batches: a disk that is full under the results of one."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pileus.batch.records import BatchCheckpoint
from pileus.store.job_table import JobState, Wish
from unit.batch.bench import Desk, asks, ids, meanwhile

NAMES = [f"line {number}" for number in range(200)]
AT_FIRST = 8  # lines that are answered before the disk is full, and as many while it is
LINES = [{**line, "body": {"text": line["custom_id"] + "x" * 5000}} for line in asks(*NAMES)]


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


def fill(disk: Path) -> Path:
    ball = disk / "ballast"
    with ball.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ball


def full_from_the_first_results_on(disk: Path) -> tuple[Desk, asyncio.Event]:
    """A batch on that disk, and what is set once it says that there is no room."""
    (disk / "job").mkdir()
    desk, noticed = Desk(disk / "job", LINES), asyncio.Event()
    desk.endpoint.permits = permits = asyncio.Semaphore(AT_FIRST)

    def on_checkpoint(state: BatchCheckpoint) -> None:
        if state.counts.completed and not (disk / "ballast").exists():
            fill(disk)
            for _ in range(AT_FIRST):
                permits.release()

    desk.on_checkpoint = on_checkpoint
    desk.on_told = lambda text: noticed.set() if os.strerror(28) in text else None
    return desk, noticed


@pytest.mark.fault(18, "tmpfs of 8 MiB, full under a batch's results", "it waits, says so, and goes on by itself")
async def test_18_a_batch_waits_on_a_full_disk_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    desk, noticed = full_from_the_first_results_on(small_disk)

    async def make_room() -> None:
        await noticed.wait()
        assert len(desk.endpoint.asked) < len(NAMES)
        desk.on_checkpoint = lambda _: None
        (small_disk / "ballast").unlink()
        for _ in NAMES:
            desk.endpoint.permits.release()

    await meanwhile(desk.lease(), make_room)
    assert desk.job.state is JobState.SUCCEEDED
    assert desk.job.failures == 0
    assert ids(desk.results("output")) == NAMES
    assert len(desk.endpoint.asked) == len(NAMES)


@pytest.mark.fault(18, "a batch on a full disk is paused, and its worker lost", "what was on record is not run again")
async def test_18_a_batch_that_is_paused_on_a_full_disk_goes_on_in_another_lease(small_disk: Path) -> None:
    desk, noticed = full_from_the_first_results_on(small_disk)

    async def pause() -> None:
        await noticed.wait()
        desk.wish(Wish.PAUSE)

    await meanwhile(desk.lease(), pause)
    assert desk.job.state is JobState.PAUSED
    before, done = len(desk.endpoint.asked), desk.checkpoint.counts.completed
    (small_disk / "ballast").unlink()
    desk.on_checkpoint = lambda _: None
    desk.endpoint.permits = None
    desk.resume()
    await desk.lease()
    assert ids(desk.results("output")) == NAMES
    assert len(desk.endpoint.asked) - before == len(NAMES) - done
