"""Fault 26: a fine-tuning that is killed at any step, and while it writes a checkpoint, ends as one that was not."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import decode, encode

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from pileus.config.settings import FineTuning, Settings
from pileus.jobs.child import ChildDied, run_child
from pileus.jobs.metrics import METRICS_FILE, read_points
from pileus.store.job_table import Job, Wish
from pileus.training.finetune.process import Run
from pileus.training.finetune.records import KIND, FineTuneCheckpoint, Order, Trained
from pileus.training.finetune.trainer import STATES
from tuned import HELD_OUT, OwnTask, install_tiny_base, order_for

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT calls what Transformers deprecates

MODULE = "pileus.training.finetune.process"
HELD = "held_fine_tuning"  # the same, which waits for its end at a step
KILLED_AT = 5


class Lease:
    """A `Context` that keeps the last checkpoint, and looks at each."""

    def __init__(self, folder: Path, checkpoint: bytes, on_checkpoint: Callable[[FineTuneCheckpoint], None]) -> None:
        self.job = Job(id="ftjob-1", kind=KIND, tenant="t", key_id="k", spec=b"{}", created_at=0, checkpoint=checkpoint)
        self.folder = folder
        self.wish = Wish.NONE
        self.last = checkpoint
        self._on_checkpoint = on_checkpoint

    async def wished(self) -> Wish:
        await asyncio.Event().wait()
        return Wish.NONE

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self.last = body
        self._on_checkpoint(decode(body, type=FineTuneCheckpoint))

    def progress(self, stage: str, done: int, total: int) -> None: ...

    def log(self, text: str, level: str = "info") -> None: ...


def child_of_this_process() -> int:
    """The process that trains."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    [child] = [each for each in children if HELD in Path(f"/proc/{each}/cmdline").read_text()]
    return int(child)


async def run(
    data: Path, folder: Path, order: Order, checkpoint: bytes, watch: Callable[..., None], module: str = MODULE
) -> Any:
    settings = Settings(data_dir=data, fine_tuning=FineTuning(checkpoint_s=0))
    lease = Lease(folder, checkpoint, watch)
    path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = {"PYTHONPATH": path, "HELD_AT": str(KILLED_AT)}
    try:
        given = await run_child(lease, module, settings, spec=encode(order), environment=environment)
    except ChildDied:
        return lease.last
    assert isinstance(given, bytes)
    return decode(given, type=Trained)


def figures(folder: Path) -> list[dict[str, float]]:
    """Of every step, without what a clock says."""
    points = read_points(folder / METRICS_FILE, 1000)
    return [{name: value for name, value in point.values.items() if name != "tokens_per_s"} for point in points]


async def test_26_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    install_tiny_base(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    # Not in a process of its own, which would do the same and take as long again to begin.
    own = OwnTask(tmp_path, whole, order_for(whole, held_out=HELD_OUT), checkpoint_s=0)
    straight = Run(own.task).run()
    order = order_for(parts, held_out=HELD_OUT)

    def kill(seen: FineTuneCheckpoint) -> None:
        if seen.step == KILLED_AT:
            os.kill(child_of_this_process(), signal.SIGKILL)

    left = await run(tmp_path, parts, order, b"", kill, HELD)
    assert isinstance(left, bytes), "it ended before it was killed"
    # As if it had been killed while it wrote: the beginning of a checkpoint, which is none.
    torn = parts / STATES / ".step-99"
    torn.mkdir()
    (torn / "rest.json").write_bytes(b'{"record": {"st')
    resumed = await run(tmp_path, parts, order, left, lambda _: None)
    assert isinstance(straight, Trained)
    assert isinstance(resumed, Trained)
    assert len(figures(whole)) == 12
    for one, other in zip(figures(whole), figures(parts), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert resumed.trained_tokens == straight.trained_tokens
