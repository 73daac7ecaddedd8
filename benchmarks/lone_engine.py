"""Our engine by itself: no server, no queue, no journal; all prompts are handed to it at once.

Run as a process of its own: `python -m benchmarks.lone_engine` reads a `Task` as JSON from standard input, and writes
the seconds that each round of it took to standard output.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.processes import StartError
from pileus.bootstrap import load_driver
from pileus.core.ports import Engine, EngineSpec
from pileus.core.records import EngineRequest, Message, SamplingParams
from pileus.models.tokenizer import load_tokenizer


class Task(Struct, frozen=True):
    """Chats to be answered greedily, `output_tokens` each."""

    model: str  # the artefact's folder
    options: dict[str, Any]
    rounds: list[list[str]]
    output_tokens: int


async def measure(task: Task) -> list[float]:
    """Seconds for each round. Raises `StartError`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.lone_engine"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate(msgspec.json.encode(task))
    if process.returncode:
        raise StartError(error.decode(errors="replace").strip().splitlines()[-1])
    return msgspec.json.decode(out, type=list[float])


def run(task: Task) -> list[float]:
    driver = load_driver("native")
    path = Path(task.model)
    tokenizer = load_tokenizer(path)
    engine = driver.open(EngineSpec("model", path, driver.options.model_validate(task.options)))
    numbers = count(1)
    try:
        _generate(engine, [[1, 2, 3]], 2, numbers)
        took = []
        for prompts in task.rounds:
            ids = [tokenizer.encode_chat([Message("user", prompt)]) for prompt in prompts]
            took.append(_generate(engine, ids, task.output_tokens, numbers))
        return took
    finally:
        engine.close()


def _generate(engine: Engine, prompts: Sequence[Sequence[int]], output_tokens: int, numbers: "count[int]") -> float:
    began = perf_counter()
    for prompt in prompts:
        params = SamplingParams(max_tokens=output_tokens, seed=1, temperature=0.0)
        engine.submit(EngineRequest(next(numbers), tuple(prompt), params))
    left = len(prompts)
    for step in engine.events():
        left -= len(step.finishes)
        if not left:
            return perf_counter() - began
    raise StartError("the engine ended before its work")


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Task))))
