"""A label for a text: a BERT with one more layer on it (Devlin et al. 2018), or one from scratch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from pileus.training.examples import Batch
from pileus.training.prepared import Ragged, about, tokenizer_of
from pileus.training.recipes.bert import BERT_DROPOUT, bert_config
from pileus.training.recipes.recipe import Setting, dropout_of, loaded, padded
from pileus.training.throughput import flops_per_token

_AT_ONCE = 64


class Labelled:
    """Texts with the numbers of their labels."""

    def __init__(self, folder: Path, name: str, pad: int) -> None:
        self._texts = Ragged(folder, f"{name}.text")
        self._labels = np.load(folder / f"{name}.label.npy", mmap_mode="r")
        self._pad = pad

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        rows = [torch.from_numpy(self._texts[index]) for index in indices]
        mask = padded([torch.ones_like(row) for row in rows], 0)
        labels = torch.tensor([int(self._labels[index]) for index in indices])
        tensors = {"ids": padded(rows, self._pad), "mask": mask, "labels": labels}
        return Batch(tensors, len(rows), sum(map(len, rows)))


class Classifier:
    """Meets `OpenRecipe`."""

    def __init__(self, setting: Setting) -> None:
        spec, tokenizer = setting.spec, tokenizer_of(setting.data)
        self._smoothing = spec.label_smoothing
        self.train = Labelled(setting.data, "train", tokenizer.pad_token_id)
        held_out = Labelled(setting.data, "validation", tokenizer.pad_token_id)
        self.validation = held_out if len(held_out) else None
        labels = about(setting.data).labels
        names = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }
        torch.manual_seed(spec.seed)
        if setting.base is None:
            self.model: nn.Module = BertForSequenceClassification(bert_config(spec, tokenizer, **names))
        else:
            self.model = loaded(
                AutoModelForSequenceClassification, setting.base, dropout_of(spec, *BERT_DROPOUT), **names
            )
        self.flops_per_token = flops_per_token(self.model)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(input_ids=batch.tensors["ids"], attention_mask=batch.tensors["mask"]).logits
        smoothing = self._smoothing if model.training else 0.0
        return cross_entropy(logits.float(), batch.tensors["labels"], reduction="sum", label_smoothing=smoothing)

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Accuracy, and the mean over the labels of F1."""
        if self.validation is None:
            return {}
        said, right = [], []
        for begin in range(0, len(self.validation), _AT_ONCE):
            batch = self.validation.batch(range(begin, min(begin + _AT_ONCE, len(self.validation))), 0)
            logits = model(input_ids=batch.tensors["ids"], attention_mask=batch.tensors["mask"]).logits
            said += logits.argmax(-1).tolist()
            right += batch.tensors["labels"].tolist()
        return {"accuracy": float(np.mean(np.array(said) == np.array(right))), "f1": _macro_f1(said, right)}

    def save(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def _macro_f1(said: list[int], right: list[int]) -> float:
    each = []
    for label in sorted({*said, *right}):
        hits = sum(a == b == label for a, b in zip(said, right, strict=True))
        each.append(2 * hits / (said.count(label) + right.count(label)))
    return sum(each) / len(each)
