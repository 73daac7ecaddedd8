"""`train`: the process in which a job's model is trained. `python -m pileus.training.process`, by `jobs.child`."""

from typing import Any

from msgspec import Struct

from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.registry import Made
from pileus.store.job_table import Wish
from pileus.training import ranks
from pileus.training.curves import TaskWatcher, told
from pileus.training.loop import Diverged
from pileus.training.prepared import about, prepare
from pileus.training.result import base_folder, figures_of, keep
from pileus.training.spec import Train


class Result(Struct, frozen=True, kw_only=True):
    """Of a run that ended."""

    made: tuple[Made, ...]
    figures: dict[str, float]
    stopped_early: bool


def work(task: Task) -> Result | dict[str, Any] | Yielded:
    """Prepare, train, keep what came of it."""
    spec = task.spec(Train)
    base = base_folder(spec, task.settings)
    data = prepare(spec, task.folder, base, lambda stage: task.progress(stage, 0, 0))
    there = about(data)
    task.log(f"{there.examples} examples to learn from, {there.held_out} held out")
    watcher = TaskWatcher(task)
    given = ranks.Work(spec=spec, folder=str(task.folder), data=str(data), base=str(base) if base else None)
    try:
        trained = ranks.run(given, watcher)
    except Diverged as error:
        raise JobFailed(str(error), code="diverged") from None
    finally:
        watcher.close()
    if trained.recipe is None:
        return YIELDED if task.wish is Wish.PAUSE else {}
    figures = figures_of(trained.outcome, spec)
    made = keep(trained.recipe, spec, data, task.settings, task.folder.name, figures, task.progress)
    task.log(f"kept as {made.artefact}: {told(made.figures)}")
    task.metrics.add(trained.outcome.step, watcher.last | made.figures)
    stopped_early = trained.outcome.step < spec.steps_for(there.examples)
    return Result(made=(made,), figures=made.figures, stopped_early=stopped_early)


if __name__ == "__main__":
    run_task(work)
