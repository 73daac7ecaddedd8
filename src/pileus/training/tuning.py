"""`tune`: the process of a search. `python -m pileus.training.tuning`, by `jobs.child`.

Each trial is a run of its own in a folder of its own, and reports to the study after each evaluation; the study cuts
short those that are worse than the others were at that step. All of the study is in the job's folder: a search that is
killed goes on with the trial that it was at, from that one's checkpoint. What is drawn for a trial is a function of the
seed, its number and the trials before it.
"""

from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import optuna
from msgspec import Struct
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.registry import Made
from pileus.store.job_table import Wish
from pileus.training import ranks
from pileus.training.curves import Reached
from pileus.training.loop import Diverged
from pileus.training.prepared import prepare
from pileus.training.result import base_folder, figures_of, keep
from pileus.training.spec import Range, Train, Tune, Value

_STUDY: Final = "study.log"
_TRIALS: Final = "trials"
_DATA_FIELDS: Final = {"tokenizer", "vocabulary", "context", "holdout", "base"}  # what is prepared depends on these
_SEEDS: Final = 100_003  # between two seeds of a search: more than it has trials


class Tried(Struct, frozen=True, kw_only=True):
    """One trial."""

    number: int
    state: str  # complete, pruned, or fail: it diverged
    loss: float | None
    values: dict[str, Value]


class Found(Struct, frozen=True, kw_only=True):
    """What a search found."""

    best: dict[str, Value]
    loss: float
    trials: tuple[Tried, ...]
    made: tuple[Made, ...] = ()


def work(task: Task) -> Found | dict[str, Any] | Yielded:
    """Try until there are as many trials as were asked for, then keep the best one's model."""
    search = Search(task)
    while (trial := search.next_trial()) is not None:
        if not search.tries(trial):
            return YIELDED if task.wish is Wish.PAUSE else {}
    return search.found()


class Search:
    """One study, in its job's folder."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._spec = task.spec(Tune)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(task.folder / _STUDY))),
            study_name=_TRIALS,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=self._spec.warmup_trials),
        )

    def next_trial(self) -> Trial | None:
        """The one that a kill cut off, or a new one; None when there were enough."""
        trials = self._trials()
        left = next((trial for trial in trials if trial.state == TrialState.RUNNING), None)
        if left is None and len(trials) >= self._spec.trials:
            return None
        number = left.number if left else len(trials)
        self._study.sampler = optuna.samplers.TPESampler(
            seed=self._spec.train.seed * _SEEDS + number, n_startup_trials=self._spec.warmup_trials
        )
        trial = Trial(self._study, left._trial_id) if left else self._study.ask()
        for field, text in self._spec.space.items():
            _draw(trial, field, Range.read(field, text))
        return trial

    def tries(self, trial: Trial) -> bool:
        """Run it, and tell the study how it ended; False where the job is to stop now."""
        self._task.log(f"trial {trial.number}: {_shown(trial.params)}")
        follower = _Follower(self._task, trial, self._spec.trials)
        try:
            outcome = ranks.run(self._work(trial.params, trial.number), follower).outcome
        except Diverged:
            self._end(trial, TrialState.FAIL, None)
            return True
        if not outcome.ended and not follower.is_cut:
            return False
        loss = outcome.loss if outcome.validation_loss is None else outcome.validation_loss
        self._end(trial, TrialState.PRUNED if follower.is_cut else TrialState.COMPLETE, loss)
        return True

    def found(self) -> Found:
        """Raises `JobFailed` where no trial came to its end."""
        best = self._best()
        if best is None or best.value is None:
            raise JobFailed("no trial came to its end", code="diverged")
        made = (self._kept(best),) if self._spec.keep_best else ()
        kept = "".join(f"; kept as {each.artefact}" for each in made)
        self._task.log(f"best is trial {best.number}, loss {best.value:.4g}: {_shown(best.params)}{kept}")
        return Found(
            best=best.params,
            loss=best.value,
            trials=tuple(
                Tried(number=each.number, state=each.state.name.lower(), loss=each.value, values=each.params)
                for each in self._trials()
            ),
            made=made,
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _trials(self) -> list[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False))

    def _best(self) -> FrozenTrial | None:
        complete = [trial for trial in self._trials() if trial.state == TrialState.COMPLETE]
        return min(complete, key=lambda trial: trial.value, default=None)

    def _end(self, trial: Trial, state: TrialState, loss: float | None) -> None:
        """On record; what lies in a trial's folder stays only while it is the best."""
        self._study.tell(trial, loss if state == TrialState.COMPLETE else None, state=state)
        if loss is not None:
            self._task.metrics.add(trial.number + 1, {"trial_loss": loss})
        best = self._best()
        for number in range(trial.number + 1):
            if best is None or number != best.number:
                rmtree(self._folder(number), ignore_errors=True)
        self._task.log(f"trial {trial.number}: {state.name.lower()}" + ("" if loss is None else f", loss {loss:.4g}"))
        self._task.checkpoint(Reached(trial.number + 1), "searching", trial.number + 1, self._spec.trials)

    def _work(self, values: dict[str, Value], number: int) -> ranks.Work:
        spec = self._spec.with_values(values)
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        base = base_folder(spec, self._task.settings)
        data = prepare(spec, self._data_folder(spec), base, lambda stage: self._task.progress(stage, 0, 0))
        return ranks.Work(spec=spec, folder=str(folder), data=str(data), base=str(base) if base else None)

    def _data_folder(self, spec: Train) -> Path:
        """Shared by the trials, unless what they search for changes the data."""
        changed = sorted(_DATA_FIELDS & self._spec.space.keys())
        name = "-".join(f"{field}={getattr(spec, field)}".replace("/", "_") for field in changed)
        folder = self._task.folder / "prepared" / (name or "all")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _kept(self, best: FrozenTrial) -> Made:
        given = self._work(best.params, best.number)
        trained = ranks.run(given, _Follower(self._task, None, 0))  # it has ended: this reads what it made
        assert trained.recipe is not None
        figures = figures_of(trained.outcome, given.spec)
        settings, job_id = self._task.settings, self._task.folder.name
        return keep(trained.recipe, given.spec, Path(given.data), settings, job_id, figures, self._task.progress)

    def _folder(self, number: int) -> Path:
        return self._task.folder / _TRIALS / f"{number:04}"


class _Follower:
    """A `loop.Watcher` that tells the study how a trial goes. `is_cut` once that is not good enough."""

    def __init__(self, task: Task, trial: Trial | None, trials: int) -> None:
        self.is_cut = False
        self._task = task
        self._trial = trial
        self._stage = f"trial {trial.number + 1} of {trials}" if trial else ""

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self._task.progress(self._stage, step, steps)
        if self._trial is not None and "validation_loss" in figures and step < steps:
            self._trial.report(figures["validation_loss"], step)
            self.is_cut = self._trial.should_prune()

    def kept(self, step: int, steps: int) -> None:
        pass

    def stops(self) -> bool:
        return self.is_cut or self._task.wish is not Wish.NONE


def _draw(trial: Trial, field: str, given: Range) -> Value:
    """What was drawn before stays."""
    if given.choices:
        choice: Value = trial.suggest_categorical(field, given.choices)
        return choice
    if isinstance(given.low, int) and isinstance(given.high, int):
        whole: int = trial.suggest_int(field, given.low, given.high, step=given.step or 1, log=given.log)
        return whole
    number: float = trial.suggest_float(field, given.low, given.high, step=given.step, log=given.log)
    return number


def _shown(values: dict[str, Value]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


if __name__ == "__main__":
    run_task(work)
