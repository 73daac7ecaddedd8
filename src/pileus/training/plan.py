"""How a model is optimised: what every recipe has in common. Read by the server too, so it stands on msgspec alone."""

import math
from typing import Literal

from msgspec import Struct

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["auto", "float32", "bfloat16"]
Parallel = Literal["ddp", "fsdp"]


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one run. Steps are the optimiser's; `batch` is the global one, whatever it is split into."""

    steps: int = 0  # 0: as many as `epochs` take
    epochs: float = 1.0
    batch: int = 32  # examples per step, over all processes
    accumulate: int = 1  # parts that each step's batch is computed in, one after the other
    rate: float = 1e-3  # the highest learning rate
    schedule: Schedule = "cosine"
    warmup: float = 0.05  # share of the steps in which the rate rises from 0
    final_rate: float = 0.1  # where linear and cosine end, as a share of `rate`
    weight_decay: float = 0.1  # of matrices; vectors (biases, norms) have none
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0  # the gradient's largest norm; 0: any
    ema: float = 0.0  # decay of the running mean of weights that is evaluated and kept; 0: the weights themselves
    precision: Precision = "auto"  # of matrix products; weights and the optimiser's state stay float32
    seed: int = 0
    evaluate_every: int = 0  # steps; 0: ten times in a run
    evaluate_most: int = 1024  # examples of the validation set that are looked at
    patience: int = 0  # evaluations without a better loss after which the run stops; 0: never
    checkpoint_every: int = 0  # steps; 0: by time, each `checkpoint_s`
    checkpoint_s: float = 60.0
    log_every: int = 10  # steps
    processes: int = 1  # that share each batch
    parallel: Parallel = "ddp"  # with each a whole model, or with each a share of it (FSDP)
    threads: int = 0  # of each process; 0: all cores, shared evenly

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "log_every", "processes", "evaluate_most"):
            demand(getattr(self, name) >= 1, name, "at least 1")
        for name in ("steps", "evaluate_every", "patience", "checkpoint_every", "threads", "seed"):
            demand(getattr(self, name) >= 0, name, "0 or more")
        for name in ("epochs", "rate", "checkpoint_s"):
            demand(0 < getattr(self, name) < math.inf, name, "more than 0")
        for name in ("warmup", "final_rate"):
            demand(0 <= getattr(self, name) <= 1, name, "from 0 to 1")
        for name in ("beta1", "beta2", "ema"):
            demand(0 <= getattr(self, name) < 1, name, "from 0 to less than 1")
        for name in ("weight_decay", "clip"):
            demand(0 <= getattr(self, name) < math.inf, name, "0 or more")
        share = self.accumulate * self.processes
        demand(self.batch % share == 0, "batch", f"a multiple of accumulate * processes, which is {share}")

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`, counted from 0."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return self.rate * (step + 1) / rising
        past = (step - rising) / max(1, steps - rising)  # from 0 towards 1
        share = {"constant": 1.0, "linear": 1 - past, "cosine": (1 + math.cos(math.pi * past)) / 2}[self.schedule]
        low = 1.0 if self.schedule == "constant" else self.final_rate
        return self.rate * (low + (1 - low) * share)

    def steps_for(self, examples: int) -> int:
        """How many steps the run has, on so many examples."""
        return self.steps or max(1, math.ceil(self.epochs * examples / self.batch))


def demand(holds: bool, name: str, what: str) -> None:
    """Raises `ValueError`, naming the field, where it does not hold."""
    if not holds:
        raise ValueError(f"`{name}` should be {what}")
