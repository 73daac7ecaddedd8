"""Vectors for texts: what belongs together comes to lie together, and apart from the rest of the batch.

InfoNCE with in-batch negatives (van den Oord et al. 2018), on the mean of the last layer's vectors.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._functional_collectives import all_gather_single_autograd
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, BertModel

from pileus.training.examples import Batch
from pileus.training.prepared import Ragged, tokenizer_of
from pileus.training.recipes.bert import BERT_DROPOUT, bert_config
from pileus.training.recipes.recipe import Setting, dropout_of, loaded, padded
from pileus.training.throughput import flops_per_token

_AT_ONCE = 64


class Pairs:
    """Two texts each; a batch has all first ones, then all second ones."""

    def __init__(self, folder: Path, name: str, pad: int) -> None:
        self._anchors = Ragged(folder, f"{name}.anchor")
        self._positives = Ragged(folder, f"{name}.positive")
        self._pad = pad

    def __len__(self) -> int:
        return len(self._anchors)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        rows = [torch.from_numpy(side[index]) for side in (self._anchors, self._positives) for index in indices]
        mask = padded([torch.ones_like(row) for row in rows], 0)
        return Batch({"ids": padded(rows, self._pad), "mask": mask}, len(indices), sum(map(len, rows)))


class Encoder:
    """Meets `OpenRecipe`."""

    def __init__(self, setting: Setting) -> None:
        spec, tokenizer = setting.spec, tokenizer_of(setting.data)
        self._temperature = spec.temperature
        self._context = spec.context
        self.train = Pairs(setting.data, "train", tokenizer.pad_token_id)
        held_out = Pairs(setting.data, "validation", tokenizer.pad_token_id)
        self.validation = held_out if len(held_out) else None
        self._most = spec.evaluate_most
        torch.manual_seed(spec.seed)
        if setting.base is None:
            self.model: nn.Module = BertModel(bert_config(spec, tokenizer), add_pooling_layer=False)
        else:
            self.model = loaded(AutoModel, setting.base, dropout_of(spec, *BERT_DROPOUT), add_pooling_layer=False)
        self.flops_per_token = flops_per_token(self.model)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """In training, the texts of all processes are each other's negatives."""
        anchors, positives = _vectors(model, batch).chunk(2)
        first = 0
        if model.training and dist.is_initialized():
            first = dist.get_rank() * len(positives)
            positives = all_gather_single_autograd(positives, 0, dist.group.WORLD)
        own = torch.arange(first, first + len(anchors), device=anchors.device)
        return cross_entropy(anchors @ positives.T / self._temperature, own, reduction="sum")

    def scores(self, model: nn.Module) -> dict[str, float]:
        """How often a text's own pair is the nearest of all pairs that were held out."""
        if self.validation is None:
            return {}
        count = min(len(self.validation), self._most)
        parts = [
            _vectors(model, self.validation.batch(range(begin, min(begin + _AT_ONCE, count)), 0)).chunk(2)
            for begin in range(0, count, _AT_ONCE)
        ]
        anchors, positives = (torch.cat(side) for side in zip(*parts, strict=True))
        nearest = (anchors @ positives.T).argmax(-1)
        return {"recall_at_1": float((nearest == torch.arange(count)).float().mean())}

    def save(self, model: nn.Module, folder: Path) -> None:
        """With what says how vectors are made of it, in sentence-transformers' form."""
        model.save_pretrained(folder)
        modules = ["Transformer", "Pooling", "Normalize"]
        paths = ["", "1_Pooling", "2_Normalize"]
        (folder / "modules.json").write_text(
            json.dumps(
                [
                    {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
                    for place, (kind, path) in enumerate(zip(modules, paths, strict=True))
                ],
                indent=2,
            )
        )
        for path in paths[1:]:
            (folder / path).mkdir()
        pooling = {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": self._context}, indent=2))


def _vectors(model: nn.Module, batch: Batch) -> torch.Tensor:
    """`(rows, width)`, of length 1."""
    mask = batch.tensors["mask"]
    hidden = model(input_ids=batch.tensors["ids"], attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return normalize((hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0), dim=-1)
