"""A worker process for jobs of one kind: the owner starts it, by `pileus job-worker`."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pileus.bootstrap.job_workers import JobWorkerSpec

if TYPE_CHECKING:
    from pileus.config.settings import Settings

_BEATS = 4  # in the time of a lease


def run_job_worker() -> None:
    """Reads its `JobWorkerSpec` from standard input, works until it is told to end or the owner is gone, and exits."""
    import uvloop

    from pileus.config.settings import Settings
    from pileus.engines.replica.process import die_with_parent
    from pileus.observability import events

    die_with_parent()
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=JobWorkerSpec)
    settings = Settings.model_validate_json(msgspec.json.encode(spec.settings))
    events.configure(settings.log.level, settings.log.format)
    uvloop.run(_work(settings, spec))


async def _work(settings: "Settings", spec: JobWorkerSpec) -> None:
    from pileus.bootstrap.handlers import open_handler
    from pileus.jobs.worker import JobWorker

    async with AsyncExitStack() as stack:
        opened = await open_handler(spec.kind, settings, Path(spec.scheduling), stack)
        worker = JobWorker(spec.kind, opened.handler, Path(spec.folder), settings.jobs.lease_s / _BEATS)
        if opened.lost is not None:  # the jobs go on in a process that has what they need
            opened.lost.add_done_callback(lambda _: worker.stop())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run(Path(spec.jobs))
