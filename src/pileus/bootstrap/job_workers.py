"""Worker processes for jobs, as the owner starts them."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from pileus.config.settings import Settings

COMMAND = (sys.executable, "-m", "pileus", "job-worker")


class JobWorkerSpec(Struct, frozen=True, kw_only=True):
    """What `pileus job-worker` reads from standard input, as JSON."""

    kind: str
    settings: dict[str, Any]
    jobs: str  # paths of the owner's two sockets
    scheduling: str
    folder: str  # where jobs have folders of their own


class LocalWorkers:
    """Meets `jobs.processes.WorkerStarter`. What a worker prints goes where the server's own output goes."""

    def __init__(self, settings: "Settings", jobs: Path, scheduling: Path, folder: Path) -> None:
        # A server that deploys nothing has none of the deployments that settings must have: leave those their default.
        self._settings = settings.model_dump(mode="json", exclude=None if settings.deployment else {"deployment"})
        self._jobs = jobs
        self._scheduling = scheduling
        self._folder = folder

    async def start(self, kind: str) -> "LocalWorker":
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=asyncio.subprocess.PIPE, start_new_session=True)
        assert process.stdin
        spec = JobWorkerSpec(
            kind=kind,
            settings=self._settings,
            jobs=str(self._jobs),
            scheduling=str(self._scheduling),
            folder=str(self._folder),
        )
        process.stdin.write(msgspec.json.encode(spec))
        process.stdin.close()
        return LocalWorker(process)


class LocalWorker:
    """Meets `jobs.processes.WorkerHandle`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        """With whatever it has started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
