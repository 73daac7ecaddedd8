"""What `auto` comes to, and how fast a model learns at a step."""

import math
from typing import Final

from pileus.training.finetune.records import TARGETS, Adaptation, Method, Plan, Wishes

MAX_LENGTH: Final = 2048  # tokens of an example, where nothing else is asked and the base allows it
RANK: Final = 16
BETA: Final = 0.1
_SEEN: Final = 900  # examples that `auto` has a model see, over all epochs
_MOST_EPOCHS: Final = 10
_MOST_BATCH: Final = 8
_STEPS: Final = 32  # of an epoch, before `auto` makes batches of more than one
_WARMUP: Final = 0.06  # of all steps
# At a width of 576; wider models take smaller steps.
_WIDTH: Final = 576
_RATES: Final = {
    (Method.SUPERVISED, "lora"): 1e-3,
    (Method.SUPERVISED, "full"): 5e-5,
    (Method.DPO, "lora"): 2e-4,
    (Method.DPO, "full"): 5e-6,
}


def plan_of(wishes: Wishes, examples: int, context_length: int) -> Plan:
    """For so many examples to learn from."""
    rank = wishes.rank or RANK
    return Plan(
        n_epochs=wishes.n_epochs or min(max(round(_SEEN / examples), 1), _MOST_EPOCHS),
        batch_size=min(wishes.batch_size or min(max(examples // _STEPS, 1), _MOST_BATCH), examples),
        learning_rate_multiplier=wishes.learning_rate_multiplier or 1.0,
        beta=wishes.beta or BETA,
        rank=rank,
        alpha=wishes.alpha or 2.0 * rank,
        target_modules=wishes.target_modules or TARGETS,
        max_length=max_length_of(wishes, context_length),
        patience=wishes.patience,
    )


def max_length_of(wishes: Wishes, context_length: int) -> int:
    return min(wishes.max_length or MAX_LENGTH, context_length)


def learning_rate(plan: Plan, method: Method, adaptation: Adaptation, width: int) -> float:
    """The highest of the run."""
    return _RATES[method, adaptation] * plan.learning_rate_multiplier * math.sqrt(_WIDTH / max(width, 1))


def rate_at(step: int, steps: int) -> float:
    """The share of the highest rate at a step, counted from 0: up in a straight line, then down to almost nothing."""
    warmup = max(math.ceil(_WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return max(steps - step, 1) / max(steps - warmup, 1)
