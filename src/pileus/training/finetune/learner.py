"""What a model learns from: encoded examples, and how well it does on some of them."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from pileus.training.finetune.base import Machine
from pileus.training.finetune.encoding import Encoded
from pileus.training.finetune.losses import Batch, Score, collate, log_probabilities, preference, supervised


class Learner(Protocol):
    """A method of learning, on a model and examples."""

    model: Any
    accuracy: str  # what the share of `correct` is called, behind `train_` or `valid_`
    lengths: list[int]  # of the examples, in tokens

    def score(self, places: Sequence[int]) -> tuple[Score, int]:
        """Of the examples at those places, with gradients; and how many tokens were computed."""
        ...

    def validate(self) -> dict[str, float]:
        """On examples that are not learnt from; empty without any."""
        ...


class _Learning:
    """What both methods have in common: scores of batches, and their means over the validation's examples."""

    accuracy: str

    def __init__(self, model: Any, machine: Machine, batch_size: int, lengths: list[int], validation: int) -> None:
        self.model = model
        self._machine = machine
        self.lengths = lengths
        self._batch_size = batch_size
        self._validation = validation

    def validate(self) -> dict[str, float]:
        if not self._validation:
            return {}
        self.model.eval()
        loss, correct, count = 0.0, 0, 0
        with torch.no_grad():
            for start in range(0, self._validation, self._batch_size):
                score = self._valid_score(range(start, min(start + self._batch_size, self._validation)))
                loss, correct, count = (
                    loss + score.loss.item() * score.count,
                    correct + score.correct,
                    count + score.count,
                )
        self.model.train()
        return {"valid_loss": loss / count, f"valid_{self.accuracy}": correct / count}

    def _valid_score(self, places: Sequence[int]) -> Score:
        raise NotImplementedError


class SupervisedLearner(_Learning):
    """Meets `Learner`: answers are learnt as they are."""

    accuracy = "mean_token_accuracy"

    def __init__(
        self,
        model: Any,
        machine: Machine,
        examples: list[Encoded],
        validation: list[Encoded],
        *,
        batch_size: int,
        pad: int,
    ) -> None:
        super().__init__(model, machine, batch_size, [len(example.ids) for example in examples], len(validation))
        self._examples, self._held_out, self._pad = examples, validation, pad

    def score(self, places: Sequence[int]) -> tuple[Score, int]:
        return self._score([self._examples[place] for place in places])

    def _valid_score(self, places: Sequence[int]) -> Score:
        return self._score([self._held_out[place] for place in places])[0]

    def _score(self, examples: Sequence[Encoded]) -> tuple[Score, int]:
        batch = collate(examples, self._pad, self._machine.device)
        with self._machine.arithmetic():
            return supervised(self.model, batch), batch.tokens


class PreferenceLearner(_Learning):
    """Meets `Learner`: the better of two answers is made more likely than it was, against the worse."""

    accuracy = "reward_accuracy"

    def __init__(
        self,
        model: Any,
        machine: Machine,
        pairs: list[tuple[Encoded, Encoded]],
        validation: list[tuple[Encoded, Encoded]],
        *,
        batch_size: int,
        pad: int,
        beta: float,
    ) -> None:
        super().__init__(model, machine, batch_size, [max(map(_length, pair)) for pair in pairs], len(validation))
        self._pairs, self._held_out, self._pad, self._beta = pairs, validation, pad, beta
        has_adapter = hasattr(model, "disable_adapter")
        self._frozen = None if has_adapter else copy.deepcopy(model).requires_grad_(False).eval()

    def score(self, places: Sequence[int]) -> tuple[Score, int]:
        return self._score([self._pairs[place] for place in places])

    def _valid_score(self, places: Sequence[int]) -> Score:
        return self._score([self._held_out[place] for place in places])[0]

    def _score(self, pairs: Sequence[tuple[Encoded, Encoded]]) -> tuple[Score, int]:
        rows = [better for better, _ in pairs] + [worse for _, worse in pairs]
        batch = collate(rows, self._pad, self._machine.device)
        with self._machine.arithmetic():
            reference = self._reference(batch)
            policy = log_probabilities(self.model, batch)
        return preference(policy, reference, self._beta), batch.tokens

    def _reference(self, batch: Batch) -> torch.Tensor:
        """By the base as it was."""
        with torch.no_grad():
            if self._frozen is not None:
                return log_probabilities(self._frozen, batch)
            with self.model.disable_adapter():
                return log_probabilities(self.model, batch)


def _length(example: Encoded) -> int:
    return len(example.ids)
