"""What the processes of the jobs `pull` and `import` do: get a model, and tell what came of it.

What was fetched stays in the models folder, so a job that was paused or killed goes on where it was.
"""

from collections.abc import Callable

from pileus.bootstrap.local import open_catalogue
from pileus.core.errors import OperatorError
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task
from pileus.models.artefact import Artefact
from pileus.models.catalogue import Catalogue, ModelEntry
from pileus.models.progress import Progress
from pileus.store.job_table import Wish


def obtain(task: Task, get: Callable[[Catalogue, Progress], Artefact]) -> ModelEntry | Yielded:
    """The model that `get` installs. Raises `JobFailed` with what stands against it; such a job can be resumed."""

    def progress(stage: str, done: int, total: int) -> None:
        if task.wish == Wish.PAUSE:
            raise _Paused
        task.progress(stage, done, total)

    catalogue = open_catalogue(task.settings)
    try:
        artefact = get(catalogue, progress)
    except _Paused:
        return YIELDED
    except OperatorError as error:
        raise JobFailed(error.message, code="not_obtained") from None
    task.log(f"{artefact.name} is installed in {artefact.path}")
    return catalogue.show(artefact.name)


class _Paused(Exception):
    """Somebody wants the job to pause."""
