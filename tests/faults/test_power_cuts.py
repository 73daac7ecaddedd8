"""FAULTS 20 and 22: the power goes after any write, any sync, any rename of the store's life, and in the middle of a
write; and the disk fails in between."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from faults.power import SECTOR, TOLD, Disk, Event, lay, record
from faults.power_writer import recovered

Measured = Callable[[str], None]


class Cuts:
    """The cuts of a history; equal ones are tried once."""

    def __init__(self, events: Sequence[Event], place: Path) -> None:
        self._events = events
        self._place = place
        self._found: dict[bytes, frozenset[int]] = {}
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.tried = 0

    def check(self, disk: Disk, *, begin: int = 0, subsets: int = 0, torn_every: int = 0) -> None:
        """After each event from `begin` on: it opens, it is sound, and what was acknowledged is there. A write that was
        refused may be there or not, as may the one that is under way."""
        self.acknowledged, self.refused = set(), set()
        for number, event in enumerate(self._events):
            disk.apply(event)
            self._hear(event)
            under_way = len(self.acknowledged) + len(self.refused)
            for files in disk.cuts(event, number, subsets=subsets, torn_every=torn_every) if number >= begin else ():
                self.tried += 1
                found = self._recovered(files)
                assert self.acknowledged <= found, f"event {number}, {event.op} {event.path}"
                assert found - self.acknowledged <= {*self.refused, under_way}

    def told(self) -> str:
        ops = Counter(event.op for event in self._events)
        events = f"{len(self._events)} events ({ops['w']} writes, {ops['s']} syncs)"
        return f"{events}, {self.tried} cuts, {len(self._found)} different"

    def _hear(self, event: Event) -> None:
        if event.path == TOLD and event.op == "w":
            word, number = event.data.split()
            (self.acknowledged if word == b"acknowledged" else self.refused).add(int(number))

    def _recovered(self, files: dict[str, bytes]) -> frozenset[int]:
        digest = hashlib.blake2b()
        for name in sorted(files):
            digest.update(b"%s %d " % (name.encode(), len(files[name])) + files[name])
        known = self._found.get(digest.digest())
        if known is None:
            folder = self._place / str(len(self._found))
            lay(folder, files)
            known = self._found[digest.digest()] = recovered(folder)
            shutil.rmtree(folder)
        return known


# --- the power -------------------------------------------------------------------------------------------------------


@pytest.mark.fault(22, "power cut after each write, sync and rename of the store", "what was acknowledged is there")
def test_22_a_power_cut_after_any_event_loses_nothing_that_was_acknowledged(
    shim: Path, tmp_path: Path, measured: Measured
) -> None:
    events = record(shim, tmp_path / "data", [12, 4])
    assert sum(event.path == "pileus.db" and event.op == "s" for event in events) >= 3, "the history has no checkpoints"
    cuts = Cuts(events, tmp_path)
    cuts.check(Disk())
    assert cuts.acknowledged == set(range(16))
    measured(cuts.told())


@pytest.mark.slow
@pytest.mark.fault(22, "the same, longer, with any subset of what was not synced", "what was acknowledged is there")
def test_22_whatever_part_of_what_was_not_synced_survives(shim: Path, tmp_path: Path, measured: Measured) -> None:
    cuts = Cuts(record(shim, tmp_path / "data", [20, 6]), tmp_path)
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
    shim: Path, tmp_path: Path, measured: Measured, path: str, op: str, times: int
) -> None:
    events = record(shim, tmp_path / "data", [28], op=op, path=path, times=times, during=19)
    assert sum(event.op == op.upper() for event in events) == times
    cuts = Cuts(events, tmp_path)
    cuts.check(Disk(), begin=len(events))
    found = recovered(tmp_path / "data")
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
    shim: Path, tmp_path: Path, measured: Measured, times: int, alone: bool
) -> None:
    events = record(shim, tmp_path / "data", [12], op="s", path=LOG, times=times, alone=alone, during=4)
    cuts = Cuts(events, tmp_path)
    for lose in (True, False):
        cuts.check(Disk(failed_syncs_lose=lose), begin=first_failure(events))
    assert cuts.refused
    measured(cuts.told())


@pytest.mark.fault(
    20, "a failed sync, a crash, a new start, then a power cut", "the new start does not trust it either"
)
def test_20_what_is_acknowledged_after_a_failed_sync_and_a_new_start_survives_a_power_cut(
    shim: Path, tmp_path: Path, measured: Measured
) -> None:
    before = record(shim, tmp_path / "data", [7], op="s", path=LOG, times=1, after=6)
    events = record(shim, tmp_path / "data", [4], begin=7)
    cuts = Cuts(events, tmp_path)
    for lose in (True, False):
        cuts.check(Disk(failed_syncs_lose=lose), begin=len(before))
    assert cuts.refused == {6}
    measured(cuts.told())
