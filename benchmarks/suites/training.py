"""Training: our loop against a plain PyTorch loop and Transformers' Trainer, on the same model and data, in turns."""

import asyncio
import json
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.processes import StartError
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "training"
OURS, PLAIN, TRAINER = "pileus-train", "plain-loop", "transformers-trainer"
LOAD = "train-gpt"
LOADS = {LOAD: "a decoder of 5 million parameters, batches of 8 windows of 256 tokens, float32"}
_STEPS, _QUICK_STEPS = 40, 8
_TARGETS = (OURS, PLAIN, TRAINER)


async def measure(run: Run, *, quick: bool) -> None:
    """A new process for each round, in which they take turns; each round begins with another one."""
    if find_spec("torch") is None:
        run.miss(SUITE, LOAD, "the `train` extra is not installed: `make extras`")
        return
    from importlib.metadata import version

    run.results.titles |= LOADS
    threads = f"{len(os.sched_getaffinity(0))} threads"
    for name, title, of in (
        (OURS, "`pileus train`", __version__),
        (PLAIN, "a plain PyTorch loop", version("torch")),
        (TRAINER, "Transformers' Trainer", version("transformers")),
    ):
        run.take_part(Target(name, title, of, "float32", f"{threads}; AdamW, fused; clipped; cosine"))
    with run.progress(SUITE, run.rounds) as step:
        for number in range(1, run.rounds + 1):
            step(f"{LOADS[LOAD]}, round {number}")
            first = number % len(_TARGETS)
            await _round(run, number, (*_TARGETS[first:], *_TARGETS[:first]), _QUICK_STEPS if quick else _STEPS)


async def _round(run: Run, number: int, targets: tuple[str, ...], steps: int) -> None:
    run.logs.mkdir(parents=True, exist_ok=True)
    log = run.logs / "training.log"
    with tempfile.TemporaryDirectory(prefix="pileus-bench-") as folder, log.open("ab") as printed:
        command = [sys.executable, "-m", "benchmarks.training_process", folder, str(steps), ",".join(targets)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=printed, cwd=Path(__file__).parents[2]
        )
        said, _ = await process.communicate()
    if process.returncode:
        raise StartError(f"the training process ended with status {process.returncode}: see {log}")
    for line in said.splitlines():
        if line.startswith(b'{"target"'):  # the Trainer prints, too
            told = json.loads(line)
            run.keep(SUITE, LOAD, told["target"], number, told["figures"])
