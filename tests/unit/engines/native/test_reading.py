"""What others wrote is as likely as the model itself, and the merged one, finds it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from pileus.core.ports import AdapterSource, EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.engines.native.engine import NativeEngine
from pileus.engines.native.graph import Graph
from pileus.engines.native.options import NativeOptions
from pileus.engines.native.reading import Reader
from pileus.models.adapter import Belonging
from pileus.models.convert.dispatch import convert
from pileus.models.low_rank import PeftReader, install_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
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


OPTIONS = NativeOptions(deterministic=True, kv_bytes=1 << 20, adapters=1, prefix_caching=False)


def test_losses_are_the_models_own(reference: tuple[Any, Path]) -> None:
    model, folder = reference
    reader = Reader(Graph(folder, OPTIONS), step_tokens=32)
    assert reader.most_tokens >= len(TEXT)
    assert reader.losses(TEXT, WANTED) == pytest.approx(losses_of(model, TEXT, WANTED), abs=1e-3)
    again = [True] * 33  # the next text starts anew, and its last token begins a step
    assert reader.losses(TEXT[:33], again) == pytest.approx(losses_of(model, TEXT[:33], again), abs=1e-3)
    assert reader.losses(TEXT[:4], [False] * 4).size == 0


def test_with_what_an_engine_has_loaded_they_are_the_merged_models(reference: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = reference
    graph = Graph(folder, OPTIONS)
    engine = NativeEngine(EngineSpec("made", folder, OPTIONS, adapters=PeftReader()), graph)
    reader = Reader(graph, step_tokens=32)
    store, belonging = ModelStore(tmp_path / "models"), Belonging(base="made", base_sha256="0")
    before = reader.losses(TEXT, WANTED)
    for seed, rank in enumerate((4, 12, 2)):  # each takes the place of the one before
        tensors = random_tensors(seed, rank=rank)
        with store.hold(f"a-{seed}", silent):
            peft = write_adapter(tmp_path / f"peft-{seed}", tensors, rank)
            made = install_adapter(peft, f"a-{seed}", belonging, store, source="test")
        ask(engine, AdapterSource(f"a-{seed}", str(made.path)))
        both = type(model)(model.config)
        weights = merged({name: value.numpy() for name, value in model.state_dict().items()}, tensors)
        both.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        found = reader.losses(TEXT, WANTED, 0)
        assert found == pytest.approx(losses_of(both.eval(), TEXT, WANTED), abs=2e-3)
        assert np.abs(found - before).max() > 0.05
    assert reader.losses(TEXT, WANTED) == pytest.approx(before, abs=1e-6)  # the base is as it was


def ask(engine: NativeEngine, source: AdapterSource) -> None:
    """Let it answer with that adapter."""
    engine.load_adapter(source)
    engine.submit(EngineRequest(1, (5, 17), SamplingParams(max_tokens=2, seed=0, temperature=0.0), adapter=source.id))
    for step in engine.events():
        if step.finishes:
            assert step.finishes[0].error == ""
            return
