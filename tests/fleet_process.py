"""A server in little: keeps one fake replica running, and prints its process id. `python fleet_process.py RUN_DIR`"""

import asyncio
import os
import sys
from pathlib import Path

import structlog

from pileus.core.clock import SystemClock
from pileus.fleet.backends.local import LocalStarter
from pileus.fleet.controller import Fleet
from pileus.fleet.records import Deployment, DeploymentInfo


async def main(run_dir: Path) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    starter = LocalStarter(
        (sys.executable, "-m", "fake_worker"), {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    )
    deployment = Deployment(info=DeploymentInfo(name="fake", model="fake", engine="fake"), spec={})
    fleet = Fleet([deployment], starter, run_dir=run_dir, clock=SystemClock())
    fleet.start()
    await fleet.wait_ready("fake", 20)
    print(fleet.status()[0].replicas[0].pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
