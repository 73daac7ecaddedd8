"""The other end of `child`: what a process that computes for a job has, and says."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from pileus.config.settings import Settings
from pileus.engines.replica.process import die_with_parent
from pileus.jobs.child import Brief, Told
from pileus.jobs.handler import JobFailed, Yielded
from pileus.jobs.metrics import MetricsWriter
from pileus.store.job_table import Wish

Spec = TypeVar("Spec", bound=Struct)
Record = TypeVar("Record")

_STDIN, _STDOUT = 0, 1
_READ_BYTES: Final = 1 << 20


class Task:
    """One job, in the process that computes for it. For one thread."""

    def __init__(self, brief: Brief, out: IO[bytes]) -> None:
        self.kind = brief.kind
        self.folder = Path(brief.folder)
        self.metrics = MetricsWriter(Path(brief.metrics))
        self._brief = brief
        self._out = out
        self._wish = Wish.NONE

    @property
    def wish(self) -> Wish:
        """What is asked of the job: look whenever it can stop. With `PAUSE`, make a checkpoint and return `YIELDED`;
        with `CANCEL` or `EXPIRE`, return what there is."""
        return self._wish

    @property
    def settings(self) -> Settings:
        return Settings.model_validate_json(bytes(self._brief.settings))

    def spec(self, kind: type[Spec]) -> Spec:
        return msgspec.json.decode(self._brief.spec, type=kind)

    def last(self, kind: type[Record]) -> Record | None:
        """The last checkpoint's record, if there was one."""
        given: Record | None = msgspec.json.decode(self._brief.checkpoint, type=kind | None)
        return given

    def progress(self, stage: str, done: int, total: int) -> None:
        """For people; not durable."""
        self._say(Told(progress=(stage, done, total)))

    def log(self, text: str, level: str = "info") -> None:
        self._say(Told(log=(level, text)))

    def checkpoint(self, record: Struct, stage: str, done: int, total: int) -> None:
        """What a later process goes on from. What it names must be durable before; it is on record soon after."""
        self._say(Told(checkpoint=(stage, done, total, Raw(msgspec.json.encode(record)))))

    def _say(self, told: Told) -> None:
        self._out.write(msgspec.json.encode(told) + b"\n")
        self._out.flush()

    def _listen(self, lines: Iterator[bytes]) -> None:
        for line in lines:
            self._wish = msgspec.json.decode(line, type=Wish)
        os._exit(1)  # who started this process is gone, and nobody would hear the end


def run_task(work: Callable[[Task], Struct | Mapping[str, Any] | Yielded]) -> None:
    """Be the process of a job: `work` gives its result. `JobFailed` ends the job; any other exception has it tried
    again. What libraries print goes to standard error."""
    die_with_parent()
    out = os.fdopen(os.dup(_STDOUT), "wb")
    os.dup2(sys.stderr.fileno(), _STDOUT)
    lines = _lines(_STDIN)
    task = Task(msgspec.json.decode(next(lines), type=Brief), out)
    threading.Thread(target=task._listen, args=(lines,), name="wishes", daemon=True).start()
    try:
        result = work(task)
    except JobFailed as failure:
        task._say(Told(failed=(failure.code, failure.message)))
    else:
        yielded = isinstance(result, Yielded)
        task._say(Told(yielded=True) if yielded else Told(result=Raw(msgspec.json.encode(result))))


def _lines(descriptor: int) -> Iterator[bytes]:
    """Not through `sys.stdin`, whose lock a thread that waits for a line would hold while the interpreter ends."""
    rest = b""
    while data := os.read(descriptor, _READ_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
