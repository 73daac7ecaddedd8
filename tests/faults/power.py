"""Power cuts: what a child process did to a folder, event by event, and what a cut could leave of it.

`powercut.c` writes the events down. `Disk` then says what may be on the disk after any of them. What was not synced may
be there or not, in any order, and the last write in part; a name in the folder is as unsafe until the folder is synced.
After a sync that failed, what it should have brought to the disk is lost for good or not, whatever later syncs say.
"""

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TOLD = "told"  # a file in the folder; the child tells in it what it was told of its writes
SECTOR = 512  # bytes; what a disk writes at once

_EVENT = struct.Struct("=IIQQ")
_CONTROL = struct.Struct("=IiiiI44s")
_REBUILT = ("-shm", "owner.lock", TOLD, " (deleted)")  # means nothing to whoever starts after a cut


class Event(NamedTuple):
    """`op` is one of c(reate), w(rite), t(runcate), s(ync), r(ename), u(nlink), as a capital where it failed."""

    op: str
    path: str  # below the folder; empty for the folder itself
    offset: int
    data: bytes


def build(folder: Path) -> Path:
    """The shim."""
    shim = folder / "powercut.so"
    command = ["cc", "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(shim), str(HERE / "powercut.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return shim


def environment(shim: Path, folder: Path, **more: str) -> dict[str, str]:
    """Of a process that is watched."""
    folder.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "LD_PRELOAD": str(shim), "POWERCUT_FOLDER": str(folder.resolve()), **more}


def record(shim: Path, folder: Path, lives: Sequence[int], *, begin: int = 0, **failing: object) -> list[Event]:
    """The history of a store in that folder; it goes on where the one before ended. See `power_writer.live`."""
    log, control = folder.with_name(f"{folder.name}.log"), folder.with_name(f"{folder.name}.control")
    order(control)
    plan = {"begin": begin, "lives": lives, "failing": {"control": str(control), **failing} if failing else None}
    more = {
        "POWERCUT_LOG": str(log),
        "POWERCUT_CONTROL": str(control),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)]),
    }
    command = [sys.executable, str(HERE / "power_writer.py"), str(folder), dumps(plan)]
    subprocess.run(command, env=environment(shim, folder, **more), check=True)
    return list(_events(log.read_bytes()))


def order(control: Path, op: str = "", *, skip: int = 0, times: int = 0, error: int = 0, path: str = "") -> None:
    """Let calls fail: after `skip` more that work, `times` of them, on paths that end so. Nothing: none any more."""
    code = ord(op) if op else 0
    content = _CONTROL.pack(code, skip, times, error, 0, path.encode())
    with control.open("r+b" if control.exists() else "wb") as file:
        file.write(content)


def _events(content: bytes) -> Iterator[Event]:
    at = 0
    while at < len(content):
        op, path_bytes, offset, data_bytes = _EVENT.unpack_from(content, at)
        at += _EVENT.size
        path = content[at : at + path_bytes].decode()
        at += path_bytes
        has_data = chr(op) in "wr"
        data = content[at : at + data_bytes] if has_data else b""
        at += len(data)
        yield Event(chr(op), path, offset, data)


@dataclass(eq=False)
class Inode:
    """A file's content: what is on the disk for sure, and what came since, in order."""

    durable: bytes = b""
    pending: list[Event] = field(default_factory=list)

    def content(self, writes: Sequence[Event] | None = None) -> bytes:
        """With all that came since, or with these of it."""
        found = bytearray(self.durable)
        for event in self.pending if writes is None else writes:
            if event.op == "t":
                del found[event.offset :]
                found.extend(bytes(event.offset - len(found)))
            else:
                found.extend(bytes(max(0, event.offset - len(found))))
                found[event.offset : event.offset + len(event.data)] = event.data
        return bytes(found)


class Disk:
    """The folder as the kernel and the disk have it. `failed_syncs_lose`: what a failed sync should have brought to
    the disk never gets there, or was there already."""

    def __init__(self, *, failed_syncs_lose: bool = True) -> None:
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self._failed_syncs_lose = failed_syncs_lose

    def apply(self, event: Event) -> None:
        if event.path.endswith(_REBUILT):
            return
        match event.op:
            case "c":
                self.names[event.path] = Inode()
            case "u":
                del self.names[event.path]
            case "r":
                self.names[event.data.decode()] = self.names.pop(event.path)
            case "w" | "t":
                self.names[event.path].pending.append(event)
            case "s" if not event.path:
                self.durable_names = dict(self.names)
            case "s":
                self._settle(self.names[event.path])
            case "S" if event.path:
                self._fail(self.names[event.path])

    def cuts(self, last: Event, seed: int = 0, *, subsets: int = 0, torn_every: int = 0) -> Iterator[dict[str, bytes]]:
        """What may be there, by name, when the power goes just after the last event. Of torn last writes there are a
        few, or one every so many bytes; of arbitrary subsets of what is not synced, as many as asked for."""
        unsafe = [inode for inode in self.names.values() if inode.pending]
        yield {name: inode.durable for name, inode in self.durable_names.items()}
        yield {name: inode.content() for name, inode in self.durable_names.items()}
        yield {name: inode.durable for name, inode in self.names.items()}
        yield {name: inode.content() for name, inode in self.names.items()}
        if len(unsafe) > 1:
            for kept in unsafe:
                yield {n: inode.content() if inode is kept else inode.durable for n, inode in self.names.items()}
        if last.op == "w" and last.path in self.names and last.data:
            yield from self._torn(last, torn_every)
        chance = random.Random(seed)
        for _ in range(subsets if unsafe else 0):
            yield {name: inode.content(_some_of(inode.pending, chance)) for name, inode in self.names.items()}

    def _torn(self, last: Event, every: int) -> Iterator[dict[str, bytes]]:
        size, torn = len(last.data), self.names[last.path]
        lengths = {1, size // 2, size // 2 // SECTOR * SECTOR, size - 1} | set(range(0, size, every) if every else ())
        others = {name: inode.content() for name, inode in self.names.items() if inode is not torn}
        for length in sorted(lengths - {0, size}):
            part = [*torn.pending[:-1], last._replace(data=last.data[:length])]
            yield {**others, last.path: torn.content(part)}

    def _settle(self, inode: Inode) -> None:
        inode.durable, inode.pending = inode.content(), []

    def _fail(self, inode: Inode) -> None:
        if self._failed_syncs_lose:
            inode.pending = []
        else:
            self._settle(inode)


def _some_of(writes: Sequence[Event], chance: random.Random) -> list[Event]:
    """Any of them, some only in part, by sectors."""
    kept = []
    for event in writes:
        fate = chance.random()
        if fate < 0.4:
            kept.append(event)
        elif fate < 0.6 and len(event.data) > SECTOR:
            cut = chance.randrange(0, len(event.data), SECTOR)
            kept.append(event._replace(data=event.data[:cut]))
    return kept


def lay(folder: Path, files: dict[str, bytes]) -> None:
    """The folder after the cut. The index of the write-ahead log, which is never synced, is rubbish then."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    (folder / "pileus.db-shm").write_bytes(b"\xaa" * 32768)
