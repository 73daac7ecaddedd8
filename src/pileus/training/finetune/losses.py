"""What a batch costs: the loss on answers, and the preference of one answer over another."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from msgspec import Struct
from torch import Tensor

from pileus.training.finetune.encoding import Encoded

IGNORED = -100


class Batch(Struct, frozen=True):
    """`ids`, `mask` and `labels` are (rows, tokens); a label is the id that is learnt there, or `IGNORED`."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    tokens: int  # without padding


class Score(Struct, frozen=True):
    """Over the learnt tokens of a batch, or over its pairs."""

    loss: Tensor  # mean, to be differentiated
    correct: int
    count: int


def collate(examples: Sequence[Encoded], pad: int, device: torch.device) -> Batch:
    """Filled up at the end to the longest."""
    longest = max(len(example.ids) for example in examples)

    def filled(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], device=device)

    labels = [
        [token if learnt else IGNORED for token, learnt in zip(example.ids, example.learnt, strict=True)]
        for example in examples
    ]
    return Batch(
        filled([example.ids for example in examples], pad),
        filled([[1] * len(example.ids) for example in examples], 0),
        filled(labels, IGNORED),
        sum(len(example.ids) for example in examples),
    )


def supervised(model: Any, batch: Batch) -> Score:
    """Cross entropy of the answers' tokens. The vocabulary's product, dear on a small model, is made for those only."""
    learnt, logits = _logits(model, batch)
    targets = batch.labels[:, 1:][learnt]
    loss = functional.cross_entropy(logits, targets)
    return Score(loss, int((logits.detach().argmax(-1) == targets).sum()), len(targets))


def log_probabilities(model: Any, batch: Batch) -> Tensor:
    """Of each row's answer, summed over its tokens: (rows,)."""
    learnt, logits = _logits(model, batch)
    targets = batch.labels[:, 1:][learnt]
    each = -functional.cross_entropy(logits, targets, reduction="none")
    rows = learnt.nonzero()[:, 0]
    return torch.zeros(len(batch.ids), device=each.device).index_add(0, rows, each)


def preference(policy: Tensor, reference: Tensor, beta: float) -> Score:
    """Direct preference optimisation, https://arxiv.org/abs/2305.18290, equation 7. Both are (2 x pairs,): the
    preferred answers first."""
    better, worse = (policy - reference).chunk(2)
    margins = beta * (better - worse)
    return Score(-functional.logsigmoid(margins).mean(), int((margins.detach() > 0).sum()), len(margins))


def _logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Where the next token is learnt, (rows, tokens - 1), and the logits there, (learnt, vocabulary), in float32."""
    hidden = model.get_decoder()(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    learnt = batch.labels[:, 1:] != IGNORED
    return learnt, model.get_output_embeddings()(hidden[:, :-1][learnt]).float()
