"""The loop: a step, and what is told and kept between steps. Seeded, and killed at any point it goes on exactly."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from pileus.jobs.handler import JobFailed
from pileus.jobs.task import Task
from pileus.store.job_table import Wish
from pileus.training import checkpoint
from pileus.training.finetune.base import learning
from pileus.training.finetune.batching import epoch_batches
from pileus.training.finetune.learner import Learner
from pileus.training.finetune.plan import rate_at
from pileus.training.finetune.records import FineTuneCheckpoint, Kept, Plan
from pileus.training.finetune.told import step_line

STATES: Final = "states"  # folder, in the job's
STAGE: Final = "training"
_CLIP: Final = 1.0  # the gradient's longest norm
_LINES: Final = 200  # steps that are told in the log
_SAY_S: Final = 1.0  # between two words about progress


class Sums(Struct):
    """Since the last step that was told."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    steps: int = 0

    def means(self, accuracy: str) -> dict[str, float]:
        return {"train_loss": self.loss / max(self.steps, 1), f"train_{accuracy}": self.correct / max(self.count, 1)}


class Best(Struct):
    """The epoch with the lowest validation loss."""

    loss: float = float("inf")
    epoch: int = -1
    weights: dict[str, torch.Tensor] = {}


class Trainer:
    """One run of one process. `keep` makes a usable model of what an epoch learnt, and gives all that are."""

    def __init__(
        self,
        task: Task,
        learner: Learner,
        plan: Plan,
        record: FineTuneCheckpoint,
        *,
        seed: int,
        rate: float,
        checkpoint_s: float,
        keep: Callable[[FineTuneCheckpoint, dict[str, float]], tuple[Kept, ...]],
    ) -> None:
        self._task = task
        self._learner = learner
        self._plan = plan
        self._seed = seed
        self._rate = rate
        self._checkpoint_s = checkpoint_s
        self._keep = keep
        self._learning = learning(learner.model)
        self._optimiser = torch.optim.AdamW(self._learning.values(), lr=rate, weight_decay=0.0)
        self._epoch_steps = -(-len(learner.lengths) // plan.batch_size)
        self.record = replace(record, steps=self._epoch_steps * plan.n_epochs)
        self._told_every = max(self.record.steps // _LINES, 1)
        self._sums, self._best = Sums(), Best()
        self.figures: dict[str, float] = {}  # the last ones
        self._saved_at = self._said_at = time.monotonic()

    def run(self) -> Wish:
        """Until the end, or until something is asked, which is given: then it can go on from a checkpoint."""
        self._begin()
        while self.record.step < self.record.steps:
            if self._task.wish is not Wish.NONE:
                self._save()
                return self._task.wish
            self._step()
            if self.record.step % self._epoch_steps == 0:
                self._end_epoch()
            if time.monotonic() - self._saved_at >= self._checkpoint_s:
                self._save()
        self._take_best()
        return Wish.NONE

    # --- a step -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        began, step = time.monotonic(), self.record.step
        epoch, place = divmod(step, self._epoch_steps)
        places = self._batches(epoch)[place]
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * rate_at(step, self.record.steps)
        score, tokens = self._learner.score(places)
        loss = score.loss.item()
        if not math.isfinite(loss):
            raise JobFailed(f"The loss is no number at step {step + 1}: try a lower learning rate.", code="diverged")
        score.loss.backward()
        torch.nn.utils.clip_grad_norm_(self._learning.values(), _CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._count(loss, score.correct, score.count)
        took_s, before_s = time.monotonic() - began, self.record.step_s
        self.record = replace(
            self.record,
            step=step + 1,
            trained_tokens=self.record.trained_tokens + tokens,
            step_s=took_s if not before_s else 0.9 * before_s + 0.1 * took_s,
        )
        self._tell(tokens / took_s)

    def _batches(self, epoch: int) -> list[list[int]]:
        return epoch_batches(self._learner.lengths, self._plan.batch_size, self._seed, epoch)

    def _count(self, loss: float, correct: int, count: int) -> None:
        sums = self._sums
        sums.loss, sums.correct = sums.loss + loss, sums.correct + correct
        sums.count, sums.steps = sums.count + count, sums.steps + 1

    def _tell(self, tokens_per_s: float) -> None:
        step, steps, now = self.record.step, self.record.steps, time.monotonic()
        if step % self._told_every == 0 or step == steps:
            self.figures = self._sums.means(self._learner.accuracy)
            rates = {"learning_rate": self._optimiser.param_groups[0]["lr"], "tokens_per_s": tokens_per_s}
            self._task.metrics.add(step, self.figures | rates)
            self._task.log(step_line(step, steps, self.figures))
            self._sums = Sums()
        if now - self._said_at >= _SAY_S or step == steps:
            self._said_at = now
            self._task.progress(STAGE, step, steps)

    # --- between epochs -----------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        """Measure, keep the model, and find whether the run is over before its time."""
        step, epoch = self.record.step, self.record.step // self._epoch_steps
        valid = self._learner.validate()
        if valid:
            self.figures |= valid
            self._task.metrics.add(step, self.figures)
            self._task.log(step_line(step, self.record.steps, valid))
        if self._look_for_best(epoch, valid) and step < self.record.steps:
            self._task.log(f"stops early: the validation loss was lowest after epoch {self._best.epoch}")
            self.record = replace(self.record, steps=step)
        self.record = replace(self.record, kept=self._keep(self.record, dict(self.figures)))
        self._save()

    def _look_for_best(self, epoch: int, valid: dict[str, float]) -> bool:
        """Whether it has not been better for as many epochs as are borne."""
        if self._plan.patience is None or not valid:
            return False
        if valid["valid_loss"] < self._best.loss:
            weights = {name: value.detach().cpu().clone() for name, value in self._learning.items()}
            self._best = Best(valid["valid_loss"], epoch, weights)
        return epoch - self._best.epoch >= self._plan.patience

    def _take_best(self) -> None:
        """Where validation says which epoch was best, that is the result."""
        with torch.no_grad():
            for name, value in self._best.weights.items():
                self._learning[name].copy_(value)

    # --- kept and gone on with ----------------------------------------------------------------------------------------

    @property
    def _states(self) -> Path:
        return self._task.folder / STATES

    def _save(self) -> None:
        state = {
            "record": to_builtins(self.record),
            "learning": self._learning,
            "optimiser": self._optimiser.state_dict(),
            "random": checkpoint.random_state(),
            "sums": [self._sums.loss, self._sums.correct, self._sums.count, self._sums.steps],
            "best": [self._best.loss if self._best.weights else None, self._best.epoch, self._best.weights],
            "figures": self.figures,
        }
        checkpoint.save(self._states, self.record.step, state)
        self._task.checkpoint(self.record, STAGE, self.record.step, self.record.steps)
        self._saved_at = time.monotonic()

    def _begin(self) -> None:
        """From the last state, where there is one. The newest that is whole may be newer than what is on record."""
        torch.manual_seed(self._seed)
        whole = checkpoint.checkpoints(self._states) if self._states.is_dir() else []
        if whole:
            self._restore(checkpoint.load(whole[-1]))
            self._task.log(f"goes on after step {self.record.step} of {self.record.steps}")
        self._task.checkpoint(self.record, STAGE, self.record.step, self.record.steps)

    def _restore(self, state: dict[str, Any]) -> None:
        self.record = convert(state["record"], FineTuneCheckpoint)
        with torch.no_grad():
            for name, value in state["learning"].items():
                self._learning[name].copy_(value)
        self._optimiser.load_state_dict(state["optimiser"])
        self._sums = Sums(*state["sums"])
        loss, epoch, weights = state["best"]
        self._best = Best(loss if weights else float("inf"), epoch, weights)
        self.figures = state["figures"]
        checkpoint.restore_random(state["random"])
