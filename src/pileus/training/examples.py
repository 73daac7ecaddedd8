"""What a recipe learns from, in the order in which it learns: pure functions of the seed and the step.

So a run that goes on after a kill needs no position in its data but the step, and processes that share a batch agree
about it without a word.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

_MASK: Final = 2**64 - 1


class Batch(Struct, frozen=True):
    """Examples that go through the model together."""

    tensors: dict[str, torch.Tensor]  # by the names that the recipe's loss knows
    targets: int  # what the loss is a mean over: tokens to predict, or rows
    tokens: int  # that the model reads

    def to(self, device: torch.device) -> "Batch":
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(moved, self.targets, self.tokens)


class Examples(Protocol):
    """Numbered examples."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """A function of its arguments: where it draws (masks), it draws by `noise`, keyed by epoch and example."""
        ...


class Order:
    """Which examples each step takes: every epoch all of them once, in an order of its own."""

    def __init__(self, examples: int, batch: int, seed: int) -> None:
        self._examples = examples
        self._batch = batch
        self._seed = seed
        self._shuffled: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def epoch(self, step: int) -> int:
        """In which the step begins."""
        return step * self._batch // self._examples

    def of_step(self, step: int) -> list[int]:
        """The examples of a step, counted from 0; a step may reach into the next epoch."""
        places = range(step * self._batch, (step + 1) * self._batch)
        return [int(self._of_epoch(place // self._examples)[place % self._examples]) for place in places]

    def _of_epoch(self, epoch: int) -> NDArray[np.int64]:
        if self._shuffled[0] != epoch:
            self._shuffled = (epoch, np.random.default_rng((self._seed, epoch)).permutation(self._examples))
        return self._shuffled[1]


def step_seed(seed: int, step: int, rank: int) -> int:
    """For all that a step draws by itself (dropout): so nothing of a generator's state outlives a step."""
    return _mixed_int(_mixed_int(_mixed_int(seed) ^ step) ^ rank)


def noise(seed: int, epoch: int, indices: Sequence[int], width: int, draw: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), `(len(indices), width)`: a function of where each number stands, not of who draws it when.

    Source: splitmix64 (Steele, Lea, Flood 2014) as a hash of (seed, epoch, draw, example, place).
    """
    key = np.uint64(_mixed_int(_mixed_int(_mixed_int(seed) ^ epoch) ^ draw))
    with np.errstate(over="ignore"):
        rows = _mixed(key ^ np.asarray(indices, np.uint64))[:, None]
        cells = _mixed(rows + np.arange(1, width + 1, dtype=np.uint64)[None, :] * np.uint64(0x9E3779B97F4A7C15))
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mixed_int(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
