"""A process of its own for the part of a job that computes: it may need libraries that no other process loads, use all
cores without the worker missing a beat, and be killed.

The handler starts `python -m MODULE`; the process is a `task.Task`. It tells what it does as lines of JSON.
"""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw, Struct

from pileus.config.settings import Settings
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.jobs.metrics import METRICS_FILE
from pileus.store.job_table import Wish

LOG_FILE: Final = "process.log"  # what the process and its libraries print, in the job's folder
FIGURES: Final = frozenset({METRICS_FILE, LOG_FILE})  # what is worth keeping once the job has ended for good
_LINE_BYTES: Final = 64 << 20
_TAIL_BYTES: Final = 4096
_NOTHING: Final = Raw(b"null")
_LACKS: Final = re.compile(r"ModuleNotFoundError: No module named '(?!pileus)([^'.]+).*'")

# Threads that wait for one another sleep soon. GNU's OpenMP has them spin for milliseconds, in which two jobs on the
# same cores are in each other's way: forty steps that take 2.4 s alone took 13 to 20 s beside another such training. So
# it is 7 s, and costs a job that is alone less than 1%; a tenth of this count makes it 5 s, but costs a tenth alone.
_SHARING: Final = {"GOMP_SPINCOUNT": "10000"}


class Brief(Struct, frozen=True, kw_only=True):
    """What the process is given, as one line: its work, and where it left off."""

    spec: Raw
    folder: str  # the job's own
    metrics: str  # the file that its figures go to
    settings: Raw
    checkpoint: Raw = _NOTHING  # the last one
    kind: str = ""  # of the job


class Told(Struct, frozen=True, omit_defaults=True):
    """One line that the process says. Each has one of these."""

    progress: tuple[str, int, int] | None = None  # stage, done, of how many; 0 where nobody knows
    log: tuple[str, str] | None = None  # level, text
    checkpoint: tuple[str, int, int, Raw] | None = None  # as progress, with what it goes on from
    result: Raw = _NOTHING
    yielded: bool = False  # it made a checkpoint, and stopped as it was asked to
    failed: tuple[str, str] | None = None  # code and message: trying again would not help


_decode: Final = msgspec.json.Decoder(Told).decode


async def run_child(
    context: Context,
    module: str,
    settings: Settings,
    *,
    spec: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes | Yielded:
    """Run the job in `python -m MODULE` and give what it gives. `spec` is the job's own where it is not given. What is
    asked of the job is handed on. Raises `JobFailed` where the process says so or lacks a library, and `ChildDied`
    where it ends otherwise; cancelled, it kills the process."""
    process = await _start(context, module, environment or {})
    assert process.stdin is not None
    folder = context.folder.absolute()  # it runs there, where paths from here lead nowhere
    own = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    brief = Brief(
        spec=Raw(context.job.spec if spec is None else spec),
        folder=str(folder),
        metrics=str(folder / METRICS_FILE),
        settings=Raw(own.model_dump_json().encode()),
        checkpoint=Raw(context.job.checkpoint or _NOTHING),
        kind=context.job.kind,
    )
    asking = asyncio.ensure_future(_hand_on(context, process))
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it ended already, and is about to say why
            process.stdin.write(msgspec.json.encode(brief) + b"\n")
            await process.stdin.drain()
        outcome = await _follow(context, process)
        status = await process.wait()
    finally:
        asking.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if outcome is None:
        last = _last_line(context.folder / LOG_FILE)
        if status > 0 and (lacks := _LACKS.fullmatch(last)):
            raise JobFailed(f"{lacks[1]} is not installed here: `make extras` installs it", code="not_installed")
        raise ChildDied(module, status, last)
    return outcome


class ChildDied(Exception):
    """A process ended without a result. The job is tried again, from its last checkpoint."""

    def __init__(self, module: str, status: int, last_line: str) -> None:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        super().__init__(f"{module} {how}: {last_line}")


async def _start(context: Context, module: str, environment: Mapping[str, str]) -> Process:
    with (context.folder / LOG_FILE).open("ab") as printed:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=PIPE,
            stdout=PIPE,
            stderr=printed,
            env={**_SHARING, **os.environ, **environment},
            cwd=context.folder,
            limit=_LINE_BYTES,
            start_new_session=True,  # with what it starts itself, it is one group, and ends as one
        )


async def _hand_on(context: Context, process: Process) -> None:
    """Tell the process what is asked of the job."""
    assert process.stdin is not None
    said = Wish.NONE
    while True:
        wish = await context.wished()
        if wish != said:
            said = wish
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(msgspec.json.encode(wish) + b"\n")
                await process.stdin.drain()
        await asyncio.sleep(0.2)


async def _follow(context: Context, process: Process) -> bytes | Yielded | None:
    """Hand on what it says, until it says how it ended. None where it ends without a word."""
    assert process.stdout is not None
    async for line in process.stdout:
        told = _decode(line)
        if (result := bytes(told.result)) != bytes(_NOTHING):
            return result
        if told.yielded:
            return YIELDED
        if told.failed is not None:
            raise JobFailed(told.failed[1], code=told.failed[0])
        await _hand_back(context, told)
    return None


async def _hand_back(context: Context, told: Told) -> None:
    if told.checkpoint is not None:
        stage, done, total, body = told.checkpoint
        await context.checkpoint(bytes(body), stage, done, total)
    if told.progress is not None:
        context.progress(*told.progress)
    if told.log is not None:
        context.log(told.log[1], told.log[0])


def _last_line(log: Path) -> str:
    with log.open("rb") as opened:
        opened.seek(max(os.fstat(opened.fileno()).st_size - _TAIL_BYTES, 0))
        lines = opened.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no message"
