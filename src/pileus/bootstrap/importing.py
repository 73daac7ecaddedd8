"""The process of an `import` job."""

from pathlib import Path

from pileus.bootstrap.obtaining import obtain
from pileus.jobs.handler import Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.catalogue import ModelEntry
from pileus.models.obtaining import ImportSpec


def import_model(task: Task) -> ModelEntry | Yielded:
    """Import what the job names."""
    spec = task.spec(ImportSpec)
    return obtain(
        task,
        lambda catalogue, progress: catalogue.import_folder(
            Path(spec.path), spec.name, progress, licence=spec.licence, model=spec.version_of
        ),
    )


if __name__ == "__main__":
    run_task(import_model)
