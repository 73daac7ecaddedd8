"""Replicas as processes of this machine."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from pileus.core.ports import ReplicaCommand

WORKER = (sys.executable, "-m", "pileus", "worker")
_TAIL_LINES = 200
_LINE_BYTES = 4096
_LOG_END_S = 0.5  # for the last lines, when the process has ended
_CGROUP = Path("/sys/fs/cgroup")
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

log = structlog.get_logger(__name__)


class LocalStarter:
    """Meets `ReplicaStarter`. The process reads its `ReplicaCommand` as JSON from standard input, and leads a group
    of its own, so that a Ctrl-C in the terminal reaches the server alone. `spec["threads"]` limits numeric libraries.
    """

    def __init__(self, command: Sequence[str] = WORKER, environ: Mapping[str, str] | None = None) -> None:
        self._command = tuple(command)
        self._environ = dict(os.environ if environ is None else environ)

    async def start(self, command: ReplicaCommand) -> "LocalReplica":
        limits = dict.fromkeys(_THREAD_LIMITS, str(command.spec["threads"])) if "threads" in command.spec else {}
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environ | limits,
            start_new_session=True,
        )
        assert process.stdin
        process.stdin.write(msgspec.json.encode(command))
        process.stdin.close()
        log.info("replica_process_started", replica=command.replica, epoch=command.epoch, pid=process.pid)
        return LocalReplica(process, command.replica)


class LocalReplica:
    """Meets `ReplicaHandle`. What the process prints goes to the server's log, line by line."""

    def __init__(self, process: asyncio.subprocess.Process, replica: str) -> None:
        self.pid = process.pid
        self._process = process
        self._replica = replica
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reading = asyncio.create_task(self._read_log())

    async def wait(self) -> int:
        status = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=_LOG_END_S)
        self._reading.cancel()
        return status

    async def stop(self, grace_s: float) -> None:
        if grace_s > 0:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
        self._signal(signal.SIGKILL)
        await self.wait()

    def tail(self) -> str:
        return "\n".join(self._tail)

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group, unless its leader is gone: its number may then be another's."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _read_log(self) -> None:
        assert self._process.stdout
        rest = b""
        while chunk := await self._process.stdout.read(_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._on_line(line)
        if rest:
            self._on_line(rest)

    def _on_line(self, data: bytes) -> None:
        line = data.decode(errors="replace").rstrip()
        self._tail.append(line)
        log.info("replica_output", replica=self._replica, line=line)


def available_bytes() -> int:
    """Memory that this machine can still give, by its own account; within the control group's limit, if it has one."""
    free = _field(Path("/proc/meminfo"), "MemAvailable:")
    available = sys.maxsize if free is None else free * 1024
    with contextlib.suppress(OSError, ValueError):  # there is no limit, or no control group
        limit = int((_CGROUP / "memory.max").read_text())
        held = int((_CGROUP / "memory.current").read_text()) - (_field(_CGROUP / "memory.stat", "inactive_file") or 0)
        available = min(available, max(0, limit - held))
    return available


def _field(file: Path, name: str) -> int | None:
    """A number in a file of names and numbers; None where it is not there."""
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    return None
