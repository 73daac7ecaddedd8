"""Who follows a run for its job: figures go to the job's curves and to TensorBoard's event files beside them."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from torch.utils.tensorboard import SummaryWriter

from pileus.jobs.task import Task
from pileus.store.job_table import Wish

TENSORBOARD = "tensorboard"  # folder, in the job's


class Reached(Struct, frozen=True):
    """A job's checkpoint: the state itself lies in the job's folder, where the newest whole one counts."""

    step: int


def told(figures: Mapping[str, float]) -> str:
    """`loss 3.819, tokens 20,480`"""
    return ", ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"


class TaskWatcher:
    """Meets `loop.Watcher`."""

    def __init__(self, task: Task, stage: str = "training") -> None:
        self._task = task
        self._stage = stage
        self.last: dict[str, float] = {}  # what was told last
        last = task.last(Reached)
        self._events = SummaryWriter(task.folder / TENSORBOARD, purge_step=last.step + 1 if last else None)

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self.last = figures
        self._task.metrics.add(step, figures)
        self._task.progress(self._stage, step, steps)
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)
        if "validation_loss" in figures:
            self._task.log(f"step {step}: " + told(figures))

    def kept(self, step: int, steps: int) -> None:
        self._events.flush()
        self._task.checkpoint(Reached(step), self._stage, step, steps)

    def stops(self) -> bool:
        return self._task.wish is not Wish.NONE

    def close(self) -> None:
        self._events.close()


def event_files(folder: Path) -> list[Path]:
    """Of a job's folder."""
    return sorted((folder / TENSORBOARD).glob("events.*"))
