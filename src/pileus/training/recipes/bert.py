"""An encoder that fills in masked words (Devlin et al. 2018, without the second task, as Liu et al. 2019)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from pileus.training.examples import Batch, noise
from pileus.training.prepared import tokenizer_of
from pileus.training.recipes.recipe import Setting, dropout_of, loaded
from pileus.training.spec import Train
from pileus.training.throughput import flops_per_token

IGNORED: Final = -100  # a place whose token is not to be predicted
BERT_DROPOUT: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # where a BERT's config has it
_MASKED, _RANDOM = 0.8, 0.1  # of the places that are to be predicted; the rest is left as it is


class MaskedWindows:
    """Example `i` is a window of the stream between [CLS] and [SEP], with other places masked in each epoch."""

    def __init__(self, ids: NDArray[np.uint32], spec: Train, tokenizer: PreTrainedTokenizerFast) -> None:
        self._ids = ids
        self._width = spec.context - 2
        self._spec = spec
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._ids) // self._width

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        width = self._width
        rows = np.stack([self._ids[index * width : (index + 1) * width] for index in indices]).astype(np.int64)
        hidden, targets = self._hide(rows, indices, epoch)
        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        ids = np.pad(np.pad(hidden, ((0, 0), (1, 0)), constant_values=first), ((0, 0), (0, 1)), constant_values=last)
        wanted = np.pad(targets, ((0, 0), (1, 1)), constant_values=IGNORED)
        tensors = {"ids": torch.from_numpy(ids), "wanted": torch.from_numpy(wanted)}
        return Batch(tensors, max(1, int((targets != IGNORED).sum())), ids.size)

    def _hide(
        self, rows: NDArray[np.int64], indices: Sequence[int], epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        chosen, how, which = (noise(self._spec.seed, epoch, indices, self._width, draw) for draw in range(3))
        is_chosen = chosen < self._spec.masked
        targets = np.where(is_chosen, rows, IGNORED)
        random = (which * len(self._tokenizer)).astype(np.int64)
        hidden = np.where(how < _MASKED, self._tokenizer.mask_token_id, np.where(how < _MASKED + _RANDOM, random, rows))
        return np.where(is_chosen, hidden, rows), targets


class Bert:
    """Meets `OpenRecipe`."""

    def __init__(self, setting: Setting) -> None:
        spec, tokenizer = setting.spec, tokenizer_of(setting.data)
        self._smoothing = spec.label_smoothing
        self.train = MaskedWindows(np.load(setting.data / "train.npy", mmap_mode="r"), spec, tokenizer)
        held_out = MaskedWindows(np.load(setting.data / "validation.npy", mmap_mode="r"), spec, tokenizer)
        self.validation = held_out if len(held_out) else None
        torch.manual_seed(spec.seed)
        if setting.base is None:
            self.model: nn.Module = BertForMaskedLM(bert_config(spec, tokenizer))
        else:
            self.model = loaded(AutoModelForMaskedLM, setting.base, dropout_of(spec, *BERT_DROPOUT))
        config = self.model.config
        self.flops_per_token = flops_per_token(self.model, config.num_hidden_layers, config.hidden_size, spec.context)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(input_ids=batch.tensors["ids"]).logits
        smoothing = self._smoothing if model.training else 0.0
        return cross_entropy(
            logits.flatten(0, 1).float(), batch.tensors["wanted"].flatten(), reduction="sum", label_smoothing=smoothing
        )

    def scores(self, model: nn.Module) -> dict[str, float]:
        return {}

    def save(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def bert_config(spec: Train, tokenizer: PreTrainedTokenizerFast, **options: object) -> BertConfig:
    """Of the shape that the spec asks for."""
    shape = spec.shape
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=spec.context,
        **dict.fromkeys(BERT_DROPOUT, spec.dropout or 0.0),
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
