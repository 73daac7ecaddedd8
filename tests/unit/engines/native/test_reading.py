"""What others wrote is as likely as the model itself, and the merged one, finds it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from pileus.engines.native.options import NativeOptions
from pileus.engines.native.reading import Reader
from pileus.models.convert.dispatch import convert
from pileus.models.low_rank import read_peft
from pileus.models.progress import silent
from pileus.testing.adapters import merged, random_tensors, write_adapter
from reference_models import logits_of, save_reference, torch

TEXT = [int(token) for token in np.random.default_rng(3).integers(3, 267, 70)]  # over several steps and blocks
WANTED = [place % 3 == 0 or place > 60 for place in range(70)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("hf")
    model = save_reference(folder, "LlamaConfig", {})
    artefact = tmp_path_factory.mktemp("made")
    convert(folder, artefact, silent)
    return model, artefact


def losses_of(model: Any, ids: Sequence[int], wanted: Sequence[bool]) -> Any:
    scores = log_softmax(logits_of(model, [ids])[0].astype(np.float64), axis=-1)
    return [-scores[place - 1, ids[place]] for place in range(1, len(ids)) if wanted[place]]


def open_reader(folder: Path) -> Reader:
    return Reader(folder, NativeOptions(deterministic=True, step_tokens=32, kv_bytes=1 << 20))


def test_losses_are_the_models_own(reference: tuple[Any, Path]) -> None:
    model, folder = reference
    reader = open_reader(folder)
    assert reader.most_tokens >= len(TEXT)
    assert reader.losses(TEXT, WANTED) == pytest.approx(losses_of(model, TEXT, WANTED), abs=1e-3)
    again = [True] * 33  # the next text starts anew, and its last token begins a step
    assert reader.losses(TEXT[:33], again) == pytest.approx(losses_of(model, TEXT[:33], again), abs=1e-3)
    assert reader.losses(TEXT[:4], [False] * 4).size == 0


def test_with_an_adapter_they_are_the_merged_models(reference: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = reference
    tensors = random_tensors(5, rank=4)
    adapter = write_adapter(tmp_path / "peft", tensors, 4)
    reader = open_reader(folder)
    before = reader.losses(TEXT, WANTED)
    reader.adapt(read_peft(adapter))
    both = type(model)(model.config)
    weights = merged({name: value.numpy() for name, value in model.state_dict().items()}, tensors)
    both.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    found = reader.losses(TEXT, WANTED)
    assert found == pytest.approx(losses_of(both.eval(), TEXT, WANTED), abs=2e-3)
    assert np.abs(found - before).max() > 0.05
    for seed, options in enumerate(({"rank": 2, "targets": ("q_proj",)}, {"rank": 12}, {"rank": 4, "layers": 1}), 6):
        other = write_adapter(tmp_path / str(seed), random_tensors(seed, **options), options["rank"])
        reader.adapt(read_peft(other))
        assert np.abs(reader.losses(TEXT, WANTED) - found).max() > 0.05
    reader.adapt(read_peft(adapter))  # nothing is left of those in between
    assert reader.losses(TEXT, WANTED) == pytest.approx(found, abs=1e-4)
