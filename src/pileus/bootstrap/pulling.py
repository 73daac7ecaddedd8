"""The process of a `pull` job."""

from pileus.bootstrap.obtaining import obtain
from pileus.jobs.handler import Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.catalogue import ModelEntry
from pileus.models.obtaining import PullSpec


def pull(task: Task) -> ModelEntry | Yielded:
    """Pull what the job asks for."""
    spec = task.spec(PullSpec)
    return obtain(
        task,
        lambda catalogue, progress: catalogue.pull(spec.reference, progress, source=spec.source, name=spec.name),
    )


if __name__ == "__main__":
    run_task(pull)
