"""What follows the gradient: AdamW with decay for matrices alone, and a running mean of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pileus.training.plan import Plan


def adamw(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Fused, with the plan's decay on what has two dimensions or more: biases and norms have none."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in learnt if each.dim() >= 2], "weight_decay": plan.weight_decay},
        {"params": [each for each in learnt if each.dim() < 2], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=plan.rate, betas=(plan.beta1, plan.beta2), fused=True)


class RunningMean:
    """An exponential moving average of the learnt weights (Polyak and Juditsky 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._means = [parameter.detach().clone() for parameter in self._weights]

    def update(self, step: int) -> None:
        """After step `step`, counted from 0. Young means forget faster, or the first weights would weigh too much."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    def take(self) -> None:
        """What the model has as its weights is the mean."""
        with torch.no_grad():
            for mean, weight in zip(self._means, self._weights, strict=True):
                mean.copy_(weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the means as its weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for weight, mean in zip(self._weights, self._means, strict=True):
                kept = weight.detach().clone()
                weight.copy_(mean)
                mean.copy_(kept)
