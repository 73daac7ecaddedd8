"""FAULTS 22: the power goes after any write, any sync, any rename of the store's life, and in the middle of a write."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.power import ACKNOWLEDGED, Disk, Event, build, lay, record
from faults.power_writer import recovered

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

Measured = Callable[[str], None]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


class Cuts:
    """Every cut of a history; equal ones are tried once."""

    def __init__(self, events: list[Event], place: Path) -> None:
        self.events = events
        self.tried = 0
        self._place = place
        self._found: dict[bytes, int] = {}

    @property
    def different(self) -> int:
        return len(self._found)

    def check(self, *, subsets: int, torn_every: int) -> None:
        """After each: it opens, it is sound, and what was acknowledged is there; at most the write that was under way
        is there besides."""
        disk, acknowledged = Disk(), 0
        for number, event in enumerate(self.events):
            disk.apply(event)
            acknowledged += event.path == ACKNOWLEDGED and event.op == "w"
            for files in disk.cuts(event, number, subsets=subsets, torn_every=torn_every):
                self.tried += 1
                found = self._recovered(files)
                assert acknowledged <= found <= acknowledged + 1, f"event {number}, {event.op} {event.path}"

    def _recovered(self, files: dict[str, bytes]) -> int:
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


def told(cuts: Cuts) -> str:
    ops = Counter(event.op for event in cuts.events)
    events = f"{len(cuts.events)} events ({ops['w']} writes, {ops['s']} syncs)"
    return f"{events}, {cuts.tried} cuts, {cuts.different} different"


@pytest.mark.fault(
    22, "power cut after each write, sync and rename of the store's life", "what was acknowledged is there"
)
def test_22_a_power_cut_after_any_event_loses_nothing_that_was_acknowledged(
    shim: Path, tmp_path: Path, measured: Measured
) -> None:
    events = record(shim, tmp_path / "data", "power_writer.py", 12, 4)
    assert sum(event.path == "pileus.db" and event.op == "s" for event in events) >= 3, "the history has no checkpoints"
    cuts = Cuts(events, tmp_path)
    cuts.check(subsets=0, torn_every=0)
    measured(told(cuts))


@pytest.mark.slow
@pytest.mark.fault(22, "the same, longer, with any subset of what was not synced", "what was acknowledged is there")
def test_22_whatever_part_of_what_was_not_synced_survives(shim: Path, tmp_path: Path, measured: Measured) -> None:
    cuts = Cuts(record(shim, tmp_path / "data", "power_writer.py", 60, 20, 20), tmp_path)
    cuts.check(subsets=4, torn_every=512)
    measured(told(cuts))
