"""Real worker processes for a house."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pileus.jobs.processes import WorkerProcesses
from unit.jobs.house import House

TESTS = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


class Handle:
    """Meets `jobs.processes.WorkerHandle`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.process = process

    async def wait(self) -> int:
        return await self.process.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Starter:
    """Meets `jobs.processes.WorkerStarter`."""

    def __init__(self, house: House) -> None:
        self.started: list[Handle] = []
        self._house = house

    async def start(self, kind: str) -> Handle:
        arguments = (kind, str(self._house.folder / "jobs"), str(self._house.socket))
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("process_worker.py")), *arguments, env=ENVIRONMENT
        )
        self.started.append(Handle(process))
        return self.started[-1]


@asynccontextmanager
async def open_processes(house: House) -> AsyncIterator[Starter]:
    starter = Starter(house)
    processes = WorkerProcesses(house.jobs, house.desk, starter)
    try:
        yield starter
    finally:
        await processes.stop(0.0)
