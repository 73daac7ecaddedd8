"""An owner in a process of its own: submits one job that hangs, and prints its worker's process id. Argument: its
folder."""

import asyncio
import sys
from pathlib import Path

from unit.jobs.house import KIND, SOMEBODY, open_house
from unit.jobs.processes import open_processes


async def main() -> None:
    async with open_house(Path(sys.argv[1])) as house, open_processes(house) as starter:
        job = await house.jobs.submit(KIND, SOMEBODY, b"hang")
        await house.until_checkpoint(job.id)
        print(starter.started[-1].pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
