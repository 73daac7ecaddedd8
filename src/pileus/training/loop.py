"""The training loop: examples in, gradients, one step of the optimiser, and all over again.

It knows neither what the model is nor who watches: a `Recipe` gives the loss, `Watcher` is told. It goes on from a
checkpoint exactly as if it had never been cut: order, masks and dropout are functions of the seed and the step.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any, Final, Protocol

import torch
from msgspec import Struct
from torch import nn

from pileus.training import checkpoint
from pileus.training.examples import Batch, Examples, Order, step_seed
from pileus.training.optimiser import RunningMean, adamw
from pileus.training.parallel import Group, load_state, load_weights, state_of, weights_of
from pileus.training.plan import Plan
from pileus.training.standing import Best, Pace
from pileus.training.throughput import peak_flops

_CHECKPOINTS: Final = "checkpoints"
_BEST: Final = "best"
_EVALUATIONS: Final = 10  # in a run, where the plan does not say
_ALL: Final = 1 << 30


class Recipe(Protocol):
    """What is learnt from what: all that the loop knows of a model and its data."""

    train: Examples
    validation: Examples | None
    flops_per_token: float  # of a forward and a backward step; 0 where nobody knows

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed over the batch's targets, in float32. `model` may be a wrapped one: call it, and nothing of it."""
        ...


class Watcher(Protocol):
    """Who follows a run. In the first process only."""

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """After every `log_every` steps (`loss`, `rate`, ...), and after each evaluation (`validation_loss`)."""
        ...

    def kept(self, step: int, steps: int) -> None:
        """A checkpoint is durable."""
        ...

    def stops(self) -> bool:
        """Whether the run should make a checkpoint and stop now. Asked after each step."""
        ...


class Diverged(Exception):
    """The loss is not a number any more. Trying again would not help."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended."""

    step: int
    ended: bool  # else it was stopped, and goes on from its checkpoint
    loss: float  # of the last step, over its whole batch
    validation_loss: float | None = None  # of the weights that are kept
    best_step: int = 0  # whose weights those are
    tokens: int = 0


class Loop:
    """One run, in one of its processes. Everything it keeps is under `folder`."""

    def __init__(self, model: nn.Module, recipe: Recipe, plan: Plan, folder: Path, group: Group | None = None) -> None:
        self.group = group or Group()
        self.model = self.group.shared(model)
        self.steps = plan.steps_for(len(recipe.train))
        self.step_number = 0  # steps taken
        self._recipe = recipe
        self._plan = plan
        self._folder = folder
        self._order = Order(len(recipe.train), plan.batch, plan.seed)
        self._optimiser = adamw(self.model, plan)
        self._mean = RunningMean(self.model, plan.ema) if plan.ema else None
        self._half = uses_bfloat16(plan, self.group.device)
        self._best = Best()
        self._tokens = 0
        self._loss = math.nan
        self._kept = 0, monotonic()  # the last checkpoint's step, and when it was made

    # --- one step ---------------------------------------------------------------------------------------------------

    def step(self) -> torch.Tensor:
        """Learn from one batch. Its loss in this process's share: these shares add up to the batch's mean loss."""
        plan, group = self._plan, self.group
        torch.manual_seed(step_seed(plan.seed, self.step_number, group.rank))
        parts = [part.to(group.device) for part in self._parts()]
        targets, tokens = group.total(sum(part.targets for part in parts), sum(part.tokens for part in parts))
        share = torch.zeros((), device=group.device)
        for number, part in enumerate(parts, 1):
            with group.gathering(self.model, last=number == len(parts)):
                with self._autocast():
                    loss = self._recipe.loss(self.model, part) / targets
                (loss * group.size).backward()
            share += loss.detach()
        self._update()
        self._tokens += int(tokens)
        return share

    def _parts(self) -> list[Batch]:
        """What this process computes of the step's batch, part by part."""
        indices, epoch = self._order.of_step(self.step_number), self._order.epoch(self.step_number)
        width = self._plan.batch // self._plan.accumulate
        own = width // self.group.size
        begins = [part * width + self.group.rank * own for part in range(self._plan.accumulate)]
        return [self._recipe.train.batch(indices[begin : begin + own], epoch) for begin in begins]

    def _update(self) -> None:
        if self._plan.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._plan.clip)
        rate = self._plan.rate_at(self.step_number, self.steps)
        for parameters in self._optimiser.param_groups:
            parameters["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._mean:
            self._mean.update(self.step_number)
        self.step_number += 1

    def _autocast(self) -> Any:
        return torch.autocast(self.group.device.type, torch.bfloat16) if self._half else nullcontext()

    # --- a run ------------------------------------------------------------------------------------------------------

    def run(self, watcher: Watcher) -> Outcome:
        """From the newest checkpoint, if there is one, to the end or until the watcher stops it."""
        self.resume()
        self.model.train()
        pace = Pace(self._recipe.flops_per_token, self._peak(), self._tokens)
        self._kept = self.step_number, monotonic()
        while self.step_number < self.steps and not self._best.waited_enough(self._plan.patience):
            share = self.step()
            stops, is_due = self._agreed(watcher.stops, self._is_due)
            self._tell(watcher, share, pace, always=stops)
            if stops or is_due:
                with pace.rest():
                    self.keep(watcher)
            if stops:
                return self._outcome(ended=False)
        if self._kept[0] < self.step_number:
            self.keep(watcher)
        return self._outcome(ended=True)

    def _tell(self, watcher: Watcher, share: torch.Tensor, pace: Pace, *, always: bool) -> None:
        """The figures of the step that was taken, and of an evaluation where one is due."""
        is_last = self.step_number == self.steps
        is_due = is_last or (self._recipe.validation is not None and self.step_number % self._evaluate_every() == 0)
        if not (always or is_due or self.step_number % self._plan.log_every == 0):
            return
        [self._loss] = self.group.total(share.item())
        if not math.isfinite(self._loss):
            raise Diverged(f"the loss is {self._loss} after step {self.step_number}: try a lower `rate`")
        figures = {"loss": self._loss, "rate": self._plan.rate_at(self.step_number - 1, self.steps)}
        figures |= pace.figures(self._tokens)
        if is_due and self._recipe.validation is not None:
            with pace.rest():
                figures["validation_loss"] = self._consider()
        if self.group.is_first:
            watcher.told(self.step_number, self.steps, figures)

    def evaluate(self) -> float:
        """The mean loss on the validation set, of the running mean of the weights where there is one."""
        assert self._recipe.validation is not None
        self.model.eval()
        with torch.no_grad(), self._mean.in_place() if self._mean else nullcontext():
            loss = self._evaluated(self._recipe.validation)
        self.model.train()
        return loss

    def _evaluated(self, examples: Examples) -> float:
        """Each process takes every so-manieth batch; one that has none left takes the last one again, for nothing."""
        width = max(1, self._plan.batch // self._plan.accumulate)
        count = min(len(examples), self._plan.evaluate_most)
        batches = [list(range(begin, min(begin + width, count))) for begin in range(0, count, width)]
        total = targets = 0.0
        for first in range(0, len(batches), self.group.size):
            place = first + self.group.rank
            batch = examples.batch(batches[min(place, len(batches) - 1)], 0).to(self.group.device)
            with self._autocast():
                loss = self._recipe.loss(self.model, batch).item()
            if place < len(batches):
                total, targets = total + loss, targets + batch.targets
        total, targets = self.group.total(total, targets)
        return total / targets

    def _consider(self) -> float:
        """Evaluate, and keep the weights where they are the best so far."""
        loss = self.evaluate()
        if self._best.takes(loss, self.step_number):
            with self._mean.in_place() if self._mean else nullcontext():
                weights = weights_of(self.model)
            if self.group.is_first:
                checkpoint.save(self._folder / _BEST, self.step_number, weights, keep=_ALL)
        return loss

    # --- what is kept -----------------------------------------------------------------------------------------------

    def keep(self, watcher: Watcher) -> None:
        """Make a checkpoint. All processes must call it."""
        state = state_of(self.model, self._optimiser) | {"best": self._best.told(), "tokens": self._tokens}
        state["loss"] = self._loss if math.isfinite(self._loss) else None
        if self._mean:
            with self._mean.in_place():
                state["mean"] = weights_of(self.model)
        if self.group.is_first:
            checkpoint.save(self._folder / _CHECKPOINTS, self.step_number, state)
            self._drop_best(lambda step: step != self._best.step)  # nothing goes back to them any more
            watcher.kept(self.step_number, self.steps)
        self._kept = self.step_number, monotonic()

    def resume(self) -> bool:
        """Go back to the newest whole checkpoint; whether there was one."""
        found = checkpoint.checkpoints(self._folder / _CHECKPOINTS)
        if not found:
            return False
        state = checkpoint.load(found[-1])
        if self._mean:
            load_weights(self.model, state["mean"])
            self._mean.take()
        load_state(self.model, self._optimiser, state)
        self.step_number = checkpoint.step_of(found[-1])
        self._best = Best(*state["best"])
        self._tokens = state["tokens"]
        self._loss = math.nan if state["loss"] is None else state["loss"]
        if self.group.is_first:
            self._drop_best(lambda step: step > self.step_number)  # they are still to come
        return True

    def final_weights(self) -> dict[str, torch.Tensor]:
        """What the run made: the best that were evaluated, or the last where none were. For the first process; all
        must call it."""
        if self._best.step:
            kept = self._folder / _BEST / f"step-{self._best.step}"
            return dict(checkpoint.load(kept)) if self.group.is_first else {}
        with self._mean.in_place() if self._mean else nullcontext():
            return weights_of(self.model)

    def _drop_best(self, unwanted: Callable[[int], bool]) -> None:
        for kept in checkpoint.checkpoints(self._folder / _BEST):
            if unwanted(checkpoint.step_of(kept)):
                rmtree(kept)

    # --- small things -----------------------------------------------------------------------------------------------

    def _evaluate_every(self) -> int:
        return self._plan.evaluate_every or max(1, self.steps // _EVALUATIONS)

    def _is_due(self) -> bool:
        """For the next checkpoint."""
        kept_step, kept_at = self._kept
        if self._plan.checkpoint_every:
            return self.step_number - kept_step >= self._plan.checkpoint_every
        return monotonic() - kept_at >= self._plan.checkpoint_s

    def _agreed(self, *asked: Callable[[], bool]) -> list[bool]:
        """What the first process says to each question."""
        return [bool(said) for said in self.group.total(*(float(self.group.is_first and ask()) for ask in asked))]

    def _peak(self) -> float:
        dtype = torch.bfloat16 if self._half else torch.float32
        return self.group.size * peak_flops(self.group.device, dtype)

    def _outcome(self, *, ended: bool) -> Outcome:
        loss = self._best.loss if self._best.step else None
        best = self._best.step or self.step_number
        return Outcome(
            step=self.step_number,
            ended=ended,
            loss=self._loss,
            validation_loss=loss,
            best_step=best,
            tokens=self._tokens,
        )


def uses_bfloat16(plan: Plan, device: torch.device) -> bool:
    """Of itself only where the machine multiplies it faster: on GPUs that know it, and on CPUs with AMX."""
    if plan.precision != "auto":
        return plan.precision == "bfloat16"
    knows = torch.cuda.is_bf16_supported if device.type == "cuda" else torch.cpu._is_amx_tile_supported
    return bool(knows())
