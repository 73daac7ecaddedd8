"""What every recipe has beside what the loop needs of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from msgspec import Struct
from torch import nn
from transformers import AutoConfig

from pileus.jobs.handler import JobFailed
from pileus.training.loop import Recipe
from pileus.training.spec import Train


class Setting(Struct, frozen=True):
    """What a recipe is opened with."""

    spec: Train
    data: Path  # see `prepared`
    base: Path | None  # a Hugging Face folder to begin from


class OpenRecipe(Recipe, Protocol):
    """A recipe with a model to train."""

    model: nn.Module  # new, or as the base has it; a function of the seed

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Of the trained model on the validation set, beside its loss. Without gradients."""
        ...

    def save(self, model: nn.Module, folder: Path) -> None:
        """As a Hugging Face folder, without the tokenizer."""
        ...


def loaded(kind: type, base: Path, dropout: dict[str, float], **options: object) -> nn.Module:
    """A model of a Hugging Face folder, in float32: safetensors only, and never code that comes with it. `dropout` is
    by the names of its config. Raises `JobFailed` where that has none of such a name."""
    if dropout:
        _demand_fields(base, dropout)
    options |= dropout
    model: nn.Module = kind.from_pretrained(  # type: ignore[attr-defined]
        base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, **options
    )
    return model


def _demand_fields(base: Path, dropout: Iterable[str]) -> None:
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    if missing := next((name for name in dropout if not hasattr(config, name)), None):
        words = f"a base of the type {config.model_type!r} keeps its own, for its config has no {missing}"
        raise JobFailed(f"`dropout` should be left out: {words}")


def dropout_of(spec: Train, *names: str) -> dict[str, float]:
    """What a base is loaded with under those names of its config: its own stays where none is given."""
    return {} if spec.dropout is None else dict.fromkeys(names, spec.dropout)


def padded(rows: list["torch.Tensor"], fill: int) -> torch.Tensor:
    """`(rows, longest)`."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
