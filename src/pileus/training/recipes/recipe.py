"""What every recipe has beside what the loop needs of it."""

from pathlib import Path
from typing import Protocol

import torch
from msgspec import Struct
from torch import nn

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


def loaded(kind: type, base: Path, **options: object) -> nn.Module:
    """A model of a Hugging Face folder, in float32: safetensors only, and never code that comes with it."""
    model: nn.Module = kind.from_pretrained(  # type: ignore[attr-defined]
        base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, **options
    )
    return model


def dropout_of(spec: Train, *names: str) -> dict[str, float]:
    """What a base is loaded with under those names of its config: its own stays where none is given."""
    return {} if spec.dropout is None else dict.fromkeys(names, spec.dropout)


def padded(rows: list["torch.Tensor"], fill: int) -> torch.Tensor:
    """`(rows, longest)`."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
