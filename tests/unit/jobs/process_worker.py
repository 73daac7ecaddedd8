"""A worker process with a handler for tests. Arguments: kind, folder of the jobs, socket of their owner.

The job's spec says what becomes of it: `hang` makes a checkpoint and waits for ever, but ends where it finds that
checkpoint; `die` ends the process at once. A kind called `lame` ends before it takes jobs.
"""

import asyncio
import os
import sys
from pathlib import Path

from pileus.jobs.handler import Context, Yielded
from pileus.jobs.worker import JobWorker


async def handler(context: Context) -> bytes | Yielded:
    if context.job.spec == b"die":
        os._exit(3)
    if context.job.checkpoint:
        return context.job.checkpoint
    await context.checkpoint(b"half", "", 1, 2)
    await asyncio.Event().wait()
    return b""


async def main() -> None:
    kind, folder, socket = sys.argv[1:]
    if kind == "lame":
        sys.exit(7)
    await JobWorker(kind, handler, Path(folder), 0.1).run(Path(socket))


if __name__ == "__main__":
    asyncio.run(main())
