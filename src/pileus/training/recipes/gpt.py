"""A decoder that continues text: next-token prediction on windows of a stream of tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pileus.training.examples import Batch
from pileus.training.prepared import tokenizer_of
from pileus.training.recipes.recipe import Setting, dropout_of, loaded
from pileus.training.spec import Train
from pileus.training.throughput import flops_per_token

_MULTIPLE = 32  # of the inner width, for whole vectors in the kernels


class Windows:
    """Example `i` is what follows token `i * context`, and what should come after each of those tokens."""

    def __init__(self, ids: NDArray[np.uint32], context: int) -> None:
        self._ids = ids
        self._context = context

    def __len__(self) -> int:
        return max(0, len(self._ids) - 1) // self._context

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        width = self._context
        rows = np.stack([self._ids[index * width : index * width + width + 1] for index in indices])
        ids = torch.from_numpy(rows.astype(np.int64))
        tokens = len(indices) * width
        return Batch({"ids": ids[:, :-1], "next": ids[:, 1:]}, tokens, tokens)


class Gpt:
    """Meets `OpenRecipe`."""

    def __init__(self, setting: Setting) -> None:
        spec = setting.spec
        self._smoothing = spec.label_smoothing
        self.train = Windows(np.load(setting.data / "train.npy", mmap_mode="r"), spec.context)
        held_out = Windows(np.load(setting.data / "validation.npy", mmap_mode="r"), spec.context)
        self.validation = held_out if len(held_out) else None
        self.model = _model(spec, tokenizer_of(setting.data), setting.base)
        config = self.model.config
        self.flops_per_token = flops_per_token(self.model, config.num_hidden_layers, config.hidden_size, spec.context)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(input_ids=batch.tensors["ids"], use_cache=False).logits
        smoothing = self._smoothing if model.training else 0.0
        return cross_entropy(
            logits.flatten(0, 1).float(), batch.tensors["next"].flatten(), reduction="sum", label_smoothing=smoothing
        )

    def scores(self, model: nn.Module) -> dict[str, float]:
        return {}

    def save(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def _model(spec: Train, tokenizer: PreTrainedTokenizerFast, base: Path | None) -> nn.Module:
    torch.manual_seed(spec.seed)
    if base is not None:
        return loaded(AutoModelForCausalLM, base, dropout_of(spec, "attention_dropout"))
    shape = spec.shape
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=-(-8 * shape.width // (3 * _MULTIPLE)) * _MULTIPLE,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=spec.context,
        attention_dropout=spec.dropout or 0.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
