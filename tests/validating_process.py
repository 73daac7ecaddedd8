"""Checks the largest batch that there may be, and prints what it found and how much memory that took. In a process of
its own, so that nothing else is counted. `python validating_process.py FOLDER`"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, cast

from pileus.api.openai.single import LineEndpoint
from pileus.batch.intake import take_in
from pileus.batch.validation import Validation
from pileus.config.settings import Batches, Limits
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo
from pileus.store.local_blobs import LocalBlobs

PATH = "/v1/chat/completions"
BAD_LINE = 41_000


def write_input(path: Path, limits: Batches) -> None:
    """As many lines and as many bytes as are allowed, one of them no request."""
    room = limits.max_bytes // limits.max_lines - 1
    with path.open("w") as file:
        for number in range(1, limits.max_lines + 1):
            body = {"model": "fake", "messages": [{"role": "user", "content": ""}]}
            if number == BAD_LINE:
                body["temperature"] = 9
            line = json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": PATH, "body": body})
            filling = (f"{number} clouds, " * 400)[: room - len(line)]
            file.write(line.replace('"content": ""', f'"content": "{filling}"') + "\n")


def most_mb() -> float:
    """The largest that this process was."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


async def main(folder: Path) -> None:
    limits, blobs = Batches(), LocalBlobs(folder / "blobs")
    source = folder / "blobs" / "input"
    source.parent.mkdir()
    write_input(source, limits)
    directory = ServingDirectory([DeploymentInfo(name="fake", model="fake", engine="fake")], list)
    endpoint = LineEndpoint(PATH, cast(Any, None), directory, Limits())
    validation = Validation(
        endpoint, PATH, max_lines=limits.max_lines, max_bytes=limits.max_bytes, max_line_bytes=1 << 20
    )
    before_mb, began = most_mb(), time.monotonic()
    await take_in(blobs, "input", folder, "input.1", validation, stopped=lambda: False)
    found = {
        "bytes": source.stat().st_size,
        "lines": validation.lines,
        "problems": [[problem.line, problem.param] for problem in validation.problems],
        "grew_mb": most_mb() - before_mb,
        "took_s": time.monotonic() - began,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
