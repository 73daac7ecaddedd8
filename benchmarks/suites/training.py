"""Training: our loop against a plain PyTorch loop and Transformers' Trainer, on the same model and data, in turns."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.processes import StartError
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "training"
OURS, PLAIN, KEPT, TRAINER = "pileus-train", "plain-loop", "plain-loop-kept", "transformers-trainer"
LOAD = "train-gpt"
BATCH, CONTEXT, TURN = 8, 256, 4  # windows of a step, tokens of a window, steps of a turn
LOADS = {LOAD: f"a decoder of 4 million parameters, batches of {BATCH} windows of {CONTEXT} tokens, float32"}
_TURNS, _QUICK_TURNS = 9, 3
_TARGETS = (OURS, PLAIN, KEPT, TRAINER)
_WAITING_S = 120.0


async def measure(run: Run, *, quick: bool) -> None:
    """New processes for each round, which take turns; each turn begins with another one."""
    if find_spec("torch") is None:
        run.miss(SUITE, LOAD, "the `train` extra is not installed: `make extras`")
        return
    from importlib.metadata import version

    run.results.titles |= LOADS
    common = f"{len(os.sched_getaffinity(0))} threads; AdamW, fused; clipped; cosine"
    keeping = f"{common}; keeps freed memory"
    for name, title, of, settings in (
        (OURS, "`pileus train`", __version__, keeping),
        (PLAIN, "a plain PyTorch loop", version("torch"), common),
        (KEPT, "the same with our setting of the allocator", version("torch"), keeping),
        (TRAINER, "Transformers' Trainer", version("transformers"), common),
    ):
        run.take_part(Target(name, title, of, "float32", settings))
    with run.progress(SUITE, run.rounds) as step:
        for number in range(1, run.rounds + 1):
            step(f"{LOADS[LOAD]}, round {number}")
            await _round(run, number, _QUICK_TURNS if quick else _TURNS)


async def _round(run: Run, number: int, turns: int) -> None:
    run.logs.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="pileus-bench-"))
        takers = {}
        for target in _TARGETS:
            takers[target] = Taker(run.logs / "training.log")
            stack.push_async_callback(takers[target].end)
            await takers[target].start(folder, turns, target)
        seconds: dict[str, list[float]] = {target: [] for target in _TARGETS}
        for turn in range(turns):
            first = (number + turn) % len(_TARGETS)
            for target in (*_TARGETS[first:], *_TARGETS[:first]):
                seconds[target].append(await takers[target].turn())
        for target, taker in takers.items():
            tokens_per_s = TURN * BATCH * CONTEXT / median(seconds[target])
            last = await taker.told()
            run.keep(SUITE, LOAD, target, number, {"tokens_per_s": tokens_per_s, "final_loss": last["loss"]})


class Taker:
    """The process of one who takes turns."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: Process | None = None

    async def start(self, folder: str, turns: int, target: str) -> None:
        """Returns when its first steps, which are not timed, are taken."""
        command = [sys.executable, "-m", "benchmarks.training_process", folder, str(turns), target]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        with self._log.open("ab") as printed:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=printed, cwd=Path(__file__).parents[2], env=environment
            )
        await self.told()

    async def turn(self) -> float:
        """Seconds."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return (await self.told())["seconds"]

    async def told(self) -> dict[str, float]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _WAITING_S)
        if not line:
            raise StartError(f"a training process ended before its time: see {self._log}")
        return dict(json.loads(line))

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
