"""Each family of models on the engine itself, from a Hugging Face folder and from a GGUF file, against Transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import log_softmax

from contract.running_engine import RunningEngine
from pileus.core.ports import EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.engines.native import DRIVER
from pileus.engines.native.options import NativeOptions
from pileus.models.convert.dispatch import convert
from pileus.models.progress import silent
from reference_models import logits_of, save_reference, write_as_gguf

KINDS = {"llama": "LlamaConfig", "qwen2": "Qwen2Config"}  # Qwen2's queries, keys and values have biases
CONTEXT = 256
ALTERNATIVES = 5
LONG = tuple(int(token) for token in np.random.default_rng(3).integers(3, 267, 100))
# A short one, one of several blocks and chunks, and one that goes on from its first blocks.
PROMPTS = ((5, 17, 3, 99, 200), LONG, (*LONG[:70], 41, 7))


class Family(NamedTuple):
    """A model in Transformers, and where it is kept in which form."""

    reference: Any
    sources: dict[str, Path]


@pytest.fixture(scope="module", params=KINDS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder.with_suffix(".gguf")
    reference = save_reference(folder, KINDS[request.param], {"tie_word_embeddings": True})
    write_as_gguf(reference, request.param, file)
    return Family(reference, {"folder": folder, "gguf": file})


@pytest.fixture(params=["folder", "gguf"])
def engine(request: pytest.FixtureRequest, family: Family, tmp_path: Path) -> Iterator[RunningEngine]:
    convert(family.sources[request.param], tmp_path, silent)
    options = NativeOptions(deterministic=True, step_tokens=32, kv_bytes=1 << 22)
    running = RunningEngine(DRIVER.open(EngineSpec("made", tmp_path, options, CONTEXT)))
    yield running
    running.close()


def test_greedy_answers_and_their_logprobs_equal_those_of_transformers(family: Family, engine: RunningEngine) -> None:
    params = SamplingParams(max_tokens=24, seed=1, temperature=0, logprobs=ALTERNATIVES)
    answers = engine.run(*(EngineRequest(0, prompt, params) for prompt in PROMPTS))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        said, told = answer.only, answer.logprobs[0]
        logits = logits_of(family.reference, [[*prompt, *said]])[0, len(prompt) - 1 : -1]
        expected = log_softmax(logits.astype(np.float64), axis=-1)
        best = np.argsort(-expected, axis=-1)[:, :ALTERNATIVES]
        assert said == best[:, 0].tolist()
        assert [[token for token, _ in entry.top] for entry in told] == best.tolist()
        top = [[logprob for _, logprob in entry.top] for entry in told]
        np.testing.assert_allclose(top, np.take_along_axis(expected, best, axis=-1), atol=1e-3)
        assert [entry.logprob for entry in told] == [entry.top[0][1] for entry in told]
    assert engine.engine.stats().prefix_hit_tokens == 64
