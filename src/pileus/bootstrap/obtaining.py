"""The process of the jobs `pull` and `import`: get a model, and tell what came of it."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from pileus.bootstrap.local import open_catalogue
from pileus.core.errors import OperatorError
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.artefact import Artefact
from pileus.models.catalogue import Catalogue, ModelEntry
from pileus.models.obtaining import ImportSpec, PullSpec
from pileus.models.progress import Progress
from pileus.models.pulling import name_of
from pileus.store.job_table import Wish

_TELL_S: Final = 0.2  # between two words of how far a stage is
_ABSENT: Final = "absent"  # a file: the model was not there when the job first began


def obtain(task: Task) -> ModelEntry | Yielded:
    """The model that the job asks for, installed. What was fetched stays in the models folder, and whoever goes on uses
    it. Raises `JobFailed` with what stands against it."""
    catalogue = open_catalogue(task.settings)
    try:
        name, get = _TURNS[task.kind](task, catalogue)
        artefact = _installed_before(task, catalogue, name) or get(_teller(task))
    except _Stopped:
        if task.wish is Wish.PAUSE:
            return YIELDED
        raise JobFailed("it was to end before the model was there", code="stopped") from None
    except OperatorError as error:
        raise JobFailed(error.message, code="not_obtained") from None
    except OSError as error:
        words = f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error)
        raise JobFailed(words, code="not_obtained") from None
    task.log(f"{artefact.name} is installed in {artefact.path}")
    return catalogue.show(artefact.name)


class _Stopped(Exception):
    """Something is asked of the job: it may not go on."""


_Turn = tuple[str, Callable[[Progress], Artefact]]  # what the model will be called, and how it is got


def _pull(task: Task, catalogue: Catalogue) -> _Turn:
    spec = task.spec(PullSpec)
    return name_of(spec.reference, spec.name), lambda progress: catalogue.pull(
        spec.reference, progress, source=spec.source, name=spec.name
    )


def _import(task: Task, catalogue: Catalogue) -> _Turn:
    spec = task.spec(ImportSpec)
    return spec.name, lambda progress: catalogue.import_folder(
        Path(spec.path), spec.name, progress, licence=spec.licence, model=spec.version_of
    )


_TURNS: Final = {"pull": _pull, "import": _import}


def _installed_before(task: Task, catalogue: Catalogue, name: str) -> Artefact | None:
    """By this very job, which was killed before it could say so."""
    artefact, absent = catalogue.installed(name), task.folder / _ABSENT
    if artefact is None:
        absent.touch()
    return artefact if absent.exists() else None


def _teller(task: Task) -> Progress:
    """Tells each stage, and now and then how far it is; raises `_Stopped` as soon as something is asked."""
    told_at, told_of = 0.0, ""

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal told_at, told_of
        if task.wish is not Wish.NONE:
            raise _Stopped
        if stage != told_of or monotonic() - told_at >= _TELL_S:
            task.progress(stage, done, total)
            told_at, told_of = monotonic(), stage

    return tell


if __name__ == "__main__":
    run_task(obtain)
