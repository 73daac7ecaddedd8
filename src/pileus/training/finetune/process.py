"""The process of one fine-tuning: `python -m pileus.training.finetune.process`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pileus.core.errors import ModelRefused
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.memory import keep_freed_memory
from pileus.jobs.task import Task, run_task
from pileus.models.artefact import Artefact
from pileus.models.catalogue import Catalogue
from pileus.models.progress import silent
from pileus.models.store import MODELS_FOLDER, ModelStore
from pileus.models.tokenizer import ModelTokenizer, load_tokenizer
from pileus.store.job_table import Wish
from pileus.training.finetune.base import Machine, adapted, load_base, this_machine
from pileus.training.finetune.encoding import Encoder, pieces
from pileus.training.finetune.examples import Example, Preference, read_examples
from pileus.training.finetune.learner import Learner, PreferenceLearner, SupervisedLearner
from pileus.training.finetune.outcome import keep_adapter, keep_model, made_of
from pileus.training.finetune.plan import learning_rate
from pileus.training.finetune.records import (
    TRAINING_FILE,
    VALIDATION_FILE,
    FineTuneCheckpoint,
    Kept,
    Method,
    Order,
    Trained,
)
from pileus.training.finetune.trainer import Trainer

_NICE: Final = 10  # requests go first
_KEPT: Final = 3  # epochs whose models can be used


def work(task: Task) -> Trained | Yielded:
    os.nice(_NICE)
    keep_freed_memory()
    try:
        return Run(task).run()
    except ModelRefused as refused:  # another try would end the same way
        raise JobFailed(refused.message, code="invalid_model") from refused


class Run:
    """One lease's work."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._order = task.spec(Order)
        self._spec, self._plan = self._order.spec, self._order.checked.plan
        models = task.settings.data_dir / MODELS_FOLDER
        self._catalogue, self._store = Catalogue(models, task.settings.models), ModelStore(models)
        self._is_full = self._spec.wishes.adaptation == "full"

    def run(self) -> Trained | Yielded:
        task, spec, plan = self._task, self._spec, self._plan
        task.progress("loading", 0, 0)
        base = self._catalogue.ensure(spec.base, task.progress)
        master = self._catalogue.ensure_master(spec.base, task.progress)
        machine = this_machine()
        model = adapted(load_base(master, machine, spec.wishes.adaptation), plan, spec.wishes.adaptation, spec.seed)
        model.train()
        last = task.last(FineTuneCheckpoint)
        trainer = Trainer(
            task,
            self._learner(model, machine, load_tokenizer(base.path)),
            plan,
            last or FineTuneCheckpoint(checked=self._order.checked, running_at=self._order.running_at),
            seed=spec.seed,
            rate=learning_rate(plan, spec.method, spec.wishes.adaptation, model.config.hidden_size),
            checkpoint_s=task.settings.fine_tuning.checkpoint_s,
            keep=lambda record, figures: self._keep(model, base, record, figures),
        )
        wish = trainer.run()
        if wish is Wish.PAUSE:
            return YIELDED
        record = trainer.record
        if wish is not Wish.NONE:
            return Trained(trained_tokens=record.trained_tokens, kept=record.kept)
        task.progress("installing", 0, 0)
        made = self._finish(model, base, master)
        figures = trainer.figures | {"steps": float(record.step), "trained_tokens": float(record.trained_tokens)}
        final = Kept(step=record.step, at=time.time(), name=spec.output, metrics=trainer.figures)
        return Trained(
            made=(made_of(made, spec, figures, base.licence),),
            trained_tokens=record.trained_tokens,
            kept=(*record.kept, final),
        )

    # --- what it learns from ----------------------------------------------------------------------------------------

    def _learner(self, model: Any, machine: Machine, tokenizer: ModelTokenizer) -> Learner:
        encoder, size, pad = Encoder(tokenizer, self._plan.max_length), self._plan.batch_size, tokenizer.stop_ids[0]
        training = self._examples(TRAINING_FILE)
        held_out = self._examples(VALIDATION_FILE) if self._spec.validation is not None else iter(())
        if self._spec.method is Method.SUPERVISED:
            return SupervisedLearner(
                model,
                machine,
                [piece for example in training for piece in pieces(encoder, example)],
                [piece for example in held_out for piece in pieces(encoder, example)],
                batch_size=size,
                pad=pad,
            )
        return PreferenceLearner(
            model,
            machine,
            [encoder.preference(example) for example in training if isinstance(example, Preference)],
            [encoder.preference(example) for example in held_out if isinstance(example, Preference)],
            batch_size=size,
            pad=pad,
            beta=self._plan.beta,
        )

    def _examples(self, name: str) -> Iterator[Example]:
        """Of a copy that the handler has checked."""
        return read_examples(self._task.folder / name, self._spec.method)

    # --- what it leaves -----------------------------------------------------------------------------------------------

    def _keep(
        self, model: Any, base: Artefact, record: FineTuneCheckpoint, figures: dict[str, float]
    ) -> tuple[Kept, ...]:
        """The epochs' models that can be used, with this step's; the oldest goes. The last step's is the result."""
        if self._is_full or record.step == record.steps:
            return record.kept
        name = f"{self._spec.output}-step-{record.step}"
        keep_adapter(model, name, base, self._store, self._order.job_id)
        kept = (*record.kept, Kept(step=record.step, at=time.time(), name=name, metrics=figures))
        for old in kept[:-_KEPT]:
            self._drop(old.name)
        return kept[-_KEPT:]

    def _drop(self, name: str) -> None:
        with self._store.hold(name, silent):
            self._store.remove(name)

    def _finish(self, model: Any, base: Artefact, master: Path) -> Artefact:
        if self._is_full:
            return keep_model(model, self._spec.output, base, master, self._store, self._order.job_id)
        return keep_adapter(model, self._spec.output, base, self._store, self._order.job_id)


if __name__ == "__main__":
    run_task(work)
