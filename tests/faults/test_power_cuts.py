"""FAULTS 20 and 22: the power goes after any write, any sync, any rename of the store's life, and in the middle of a
write; and the disk fails in between."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple
from warnings import simplefilter

import pytest

from faults.power import SECTOR, TOLD, Disk, Event, lay, record
from faults.power_writer import recovered

Measured = Callable[[str], None]

_WAITING = 16  # cuts that lie there at the same time


class Trial(NamedTuple):
    """What a cut left, and what must then be there: all that was acknowledged, and nothing that nobody wrote. A write
    that was refused may be there or not, as may the one that is under way."""

    found: Future[frozenset[int]]
    acknowledged: frozenset[int]
    possible: frozenset[int]
    event: str


class Cuts:
    """The cuts of a history; equal ones are tried once. Each is tried in one of a few processes."""

    def __init__(self, events: Sequence[Event], place: Path, crew: Executor) -> None:
        self._events = events
        self._place = place
        self._crew = crew
        self._room = BoundedSemaphore(_WAITING)
        self._found: dict[bytes, Future[frozenset[int]]] = {}
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.tried = 0

    def check(self, disk: Disk, *, begin: int = 0, subsets: int = 0, torn_every: int = 0) -> None:
        """After each event from `begin` on: it opens, it is sound, and what was acknowledged is there."""
        for trial in list(self._trials(disk, begin, subsets, torn_every)):
            found = trial.found.result()
            assert trial.acknowledged <= found, trial.event
            assert found - trial.acknowledged <= trial.possible, trial.event

    def _trials(self, disk: Disk, begin: int, subsets: int, torn_every: int) -> Iterator[Trial]:
        self.acknowledged, self.refused = set(), set()
        for number, event in enumerate(self._events):
            disk.apply(event)
            self._hear(event)
            acknowledged, refused = frozenset(self.acknowledged), frozenset(self.refused)
            possible = refused | {len(acknowledged) + len(refused)}
            for files in disk.cuts(event, number, subsets=subsets, torn_every=torn_every) if number >= begin else ():
                self.tried += 1
                told = f"event {number}, {event.op} {event.path}"
                yield Trial(self._recovered(files), acknowledged, possible, told)

    def told(self) -> str:
        ops = Counter(event.op for event in self._events)
        events = f"{len(self._events)} events ({ops['w']} writes, {ops['s']} syncs)"
        return f"{events}, {self.tried} cuts, {len(self._found)} different"

    def _hear(self, event: Event) -> None:
        if event.path == TOLD and event.op == "w":
            word, number = event.data.split()
            (self.acknowledged if word == b"acknowledged" else self.refused).add(int(number))

    def _recovered(self, files: dict[str, bytes]) -> Future[frozenset[int]]:
        digest = hashlib.blake2b()
        for name in sorted(files):
            digest.update(b"%s %d " % (name.encode(), len(files[name])) + files[name])
        known = self._found.get(digest.digest())
        if known is None:
            folder = self._place / f"cut-{len(self._found)}"
            self._room.acquire()
            lay(folder, files)
            known = self._found[digest.digest()] = self._crew.submit(recovered, folder)
            known.add_done_callback(partial(self._clear, folder))
        return known

    def _clear(self, folder: Path, _: Future[frozenset[int]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # the test may be over, and all of it gone
        self._room.release()


@pytest.fixture(scope="module")
def crew() -> Iterator[Executor]:
    """Processes of their own, started afresh: this one has threads, and a fork of it could hang."""
    processes = len(os.sched_getaffinity(0))
    # Warnings are errors there too.
    with ProcessPoolExecutor(processes, get_context("spawn"), simplefilter, ("error",)) as executor:
        yield executor


# --- the power -------------------------------------------------------------------------------------------------------


@pytest.mark.fault(22, "power cut after each write, sync and rename of the store", "what was acknowledged is there")
def test_22_a_power_cut_after_any_event_loses_nothing_that_was_acknowledged(
    shim: Path, memory_path: Path, crew: Executor, measured: Measured
) -> None:
    events = record(shim, memory_path / "data", [12, 4])
    assert sum(event.path == "pileus.db" and event.op == "s" for event in events) >= 3, "the history has no checkpoints"
    cuts = Cuts(events, memory_path, crew)
    cuts.check(Disk())
    assert cuts.acknowledged == set(range(16))
    measured(cuts.told())


@pytest.mark.slow
@pytest.mark.fault(22, "the same, longer, with any subset of what was not synced", "what was acknowledged is there")
def test_22_whatever_part_of_what_was_not_synced_survives(
    shim: Path, memory_path: Path, crew: Executor, measured: Measured
) -> None:
    cuts = Cuts(record(shim, memory_path / "data", [20, 6]), memory_path, crew)
    cuts.check(Disk(), subsets=3, torn_every=SECTOR)
    measured(cuts.told())


# --- the disk --------------------------------------------------------------------------------------------------------


LOG, DATABASE = "pileus.db-wal", "pileus.db"


def first_failure(events: Sequence[Event]) -> int:
    return next(number for number, event in enumerate(events) if event.op.isupper())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("op", ["s", "w"], ids=["sync", "write"])
@pytest.mark.parametrize("path", [LOG, DATABASE], ids=["log", "database"])
@pytest.mark.fault(20, "EIO from a write or a sync of the log or the database", "refused, then on; nothing is lost")
def test_20_a_failing_disk_refuses_writes_and_loses_none(
    shim: Path, memory_path: Path, crew: Executor, measured: Measured, path: str, op: str, times: int
) -> None:
    events = record(shim, memory_path / "data", [28], op=op, path=path, times=times, during=19)
    assert sum(event.op == op.upper() for event in events) == times
    cuts = Cuts(events, memory_path, crew)
    cuts.check(Disk(), begin=len(events))
    found = recovered(memory_path / "data")
    assert cuts.acknowledged <= found
    assert found - cuts.acknowledged <= cuts.refused
    assert set(range(24, 28)) <= cuts.acknowledged, "it did not recover by itself"
    # A write into the log stands for its caller. A checkpoint is nobody's: it is done again.
    assert len(cuts.refused) <= times
    assert bool(cuts.refused) == (path == LOG)
    measured(f"{times} failed, {len(cuts.refused)} refused")


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("times", "alone"),
    [
        (2, True),
        *(pytest.param(*each, marks=SLOW) for each in ((1, True), (3, True), (1, False), (2, False), (3, False))),
    ],
)
@pytest.mark.fault(20, "failed syncs of the log, then a power cut", "a failed sync is never retried and trusted")
def test_20_what_is_acknowledged_after_failed_syncs_survives_a_power_cut(
    shim: Path, memory_path: Path, crew: Executor, measured: Measured, times: int, alone: bool
) -> None:
    events = record(shim, memory_path / "data", [12], op="s", path=LOG, times=times, alone=alone, during=4)
    cuts = Cuts(events, memory_path, crew)
    for lose in (True, False):
        cuts.check(Disk(failed_syncs_lose=lose), begin=first_failure(events))
    assert cuts.refused
    measured(cuts.told())


@pytest.mark.fault(
    20, "a failed sync, a crash, a new start, then a power cut", "the new start does not trust it either"
)
def test_20_what_is_acknowledged_after_a_failed_sync_and_a_new_start_survives_a_power_cut(
    shim: Path, memory_path: Path, crew: Executor, measured: Measured
) -> None:
    before = record(shim, memory_path / "data", [7], op="s", path=LOG, times=1, after=6)
    events = record(shim, memory_path / "data", [4], begin=7)
    cuts = Cuts(events, memory_path, crew)
    for lose in (True, False):
        cuts.check(Disk(failed_syncs_lose=lose), begin=len(before))
    assert cuts.refused == {6}
    measured(cuts.told())
