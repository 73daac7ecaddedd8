"""The native engine on the real model: the right logits, and the same text however it comes about."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileus.core.ports import EngineSpec
from pileus.core.records import ChoiceState, EngineRequest, FinishReason, SamplingParams
from pileus.engines.native import DRIVER
from pileus.engines.native.engine import NativeEngine
from pileus.engines.native.graph import Graph
from pileus.engines.native.options import NativeOptions
from pileus.models.artefact import load_artefact
from pileus.models.convert.gguf_file import read_gguf
from pileus.models.convert.gguf_model import GgufWeights, read_shape
from pileus.models.store import ModelStore
from pileus.models.tokenizer import load_tokenizer

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
)

Texts = dict[int, list[int]]


def open_engine(path: Path, **options: Any) -> NativeEngine:
    wishes = {"deterministic": True, "kv_bytes": 1 << 28, **options}
    engine = DRIVER.open(EngineSpec("smollm2", path, NativeOptions(**wishes), 8192))
    assert isinstance(engine, NativeEngine)
    return engine


@pytest.fixture(scope="module")
def engine(smollm2_path: Path) -> Iterator[NativeEngine]:
    engine = open_engine(smollm2_path)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(smollm2_path: Path) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(smollm2_path)
    return [tuple(tokenizer.encode(prompt)) for prompt in PROMPTS]


def greedy(number: int, prompt: Sequence[int], max_tokens: int = 12, **wishes: Any) -> EngineRequest:
    params = SamplingParams(**{"max_tokens": max_tokens, "seed": 1, "temperature": 0, **wishes})
    return EngineRequest(number, tuple(prompt), params)


def run(engine: NativeEngine, requests: Sequence[EngineRequest]) -> Texts:
    """Submit all at once; the tokens of each request's only choice."""
    for request in requests:
        engine.submit(request)
    texts: Texts = {request.id: [] for request in requests}
    left = len(requests)
    for output in engine.events():
        for emission in output.emissions:
            texts[emission.request] += emission.tokens
        for finish in output.finishes:
            assert finish.reason is not FinishReason.ERROR, finish.error
            left -= 1
        if not left:
            return texts
    raise AssertionError("the engine ended")


def alone(engine: NativeEngine, prompts: Sequence[Sequence[int]], **wishes: Any) -> list[list[int]]:
    return [run(engine, [greedy(number, prompt, **wishes)])[number] for number, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def reference(smollm2_path: Path, test_models_dir: Path) -> Any:
    """Transformers in float32 with the weights that the artefact holds.

    They are put over those that Transformers itself de-quantised from the same GGUF, which they must resemble: a
    converted weight is at most a 32nd of a quantisation step away (see `models.convert.quantised`).
    """
    torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    transformers = pytest.importorskip("transformers", reason="the `train` extra is not installed")
    gguf = ModelStore(test_models_dir).blob(load_artefact(smollm2_path).manifest.source.removeprefix("sha256:"))
    assert gguf is not None
    model = transformers.AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype="float32")
    file = read_gguf(gguf)
    converted = GgufWeights(file, read_shape(file))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            weights = torch.from_numpy(converted.matrix(name).dense())
            assert (weights - parameter).abs().max() <= 0.005 * parameter.abs().max()
            parameter.data = weights
    return model


def test_logits_equal_transformers_within_a_thousandth(
    smollm2_path: Path, prompts: list[tuple[int, ...]], reference: Any
) -> None:
    import torch

    graph = Graph(smollm2_path, NativeOptions(deterministic=True, kv_bytes=1 << 26))
    for ids in prompts:
        count = len(ids)
        rows = graph.run(ids, range(count), [0], [0, count], [0], [0, 1], range(count), [1.0] * count)
        with torch.no_grad():
            expected = reference(torch.tensor([ids])).logits[0].numpy()
        assert np.abs(rows.logits - expected).max() < 1e-3


def test_greedy_texts_equal_transformers(engine: NativeEngine, prompts: list[tuple[int, ...]], reference: Any) -> None:
    import torch

    for ids, text in zip(prompts, alone(engine, prompts, max_tokens=20), strict=True):
        with torch.no_grad():
            expected = reference.generate(
                torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None
            )
        assert text == expected[0, len(ids) :].tolist()


def test_the_batch_changes_nothing(engine: NativeEngine, prompts: list[tuple[int, ...]]) -> None:
    for wishes in ({"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.95}):
        apart = alone(engine, prompts, **wishes)
        together = run(engine, [greedy(number, prompt, **wishes) for number, prompt in enumerate(prompts)])
        assert [together[number] for number in range(len(prompts))] == apart


def test_the_prefix_cache_changes_nothing(smollm2_path: Path, prompts: list[tuple[int, ...]]) -> None:
    long = [tuple(prompts[1] * 8 + prompt) for prompt in prompts]
    without = open_engine(smollm2_path, prefix_caching=False)
    expected = alone(without, long)
    assert without.stats().prefix_hit_tokens == 0
    without.close()
    cached = open_engine(smollm2_path)
    assert alone(cached, long) == expected
    assert cached.stats().prefix_hit_tokens > 0
    cached.close()


def test_simultaneous_prefixes_are_computed_once_and_change_nothing(
    smollm2_path: Path, prompts: list[tuple[int, ...]]
) -> None:
    shared = tuple((prompts[1] * 20)[:128])
    requests = [greedy(number, shared + prompt) for number, prompt in enumerate(prompts)]
    engine = open_engine(smollm2_path)
    together = run(engine, requests)
    stats = engine.stats()
    assert stats.prefix_hit_tokens == 128 * (len(prompts) - 1)
    assert [together[number] for number in range(len(prompts))] == alone(engine, [r.prompt for r in requests])
    engine.close()


def test_chunked_prefill_changes_nothing(
    engine: NativeEngine, smollm2_path: Path, prompts: list[tuple[int, ...]]
) -> None:
    long = [tuple((prompt * 20)[:150]) for prompt in prompts[:2]]
    chunked = open_engine(smollm2_path, step_tokens=16, prefix_caching=False)
    assert alone(chunked, long) == alone(engine, long)
    chunked.close()


def test_preemption_changes_nothing(smollm2_path: Path, prompts: list[tuple[int, ...]], engine: NativeEngine) -> None:
    block_bytes = 2 * 30 * 3 * 32 * 64 * 4  # keys and values, layers, heads, tokens, head size, float32
    small = open_engine(smollm2_path, kv_bytes=block_bytes * 5)
    together = run(small, [greedy(number, prompt, 40) for number, prompt in enumerate(prompts)])
    assert small.stats().preemptions > 0
    assert small.stats().kv_blocks_used == 0
    assert [together[number] for number in range(len(prompts))] == alone(engine, prompts, max_tokens=40)
    small.close()


@pytest.mark.parametrize("wishes", [{"temperature": 0.0}, {"temperature": 1.2, "frequency_penalty": 0.5}], ids=str)
def test_resuming_anywhere_continues_exactly(
    engine: NativeEngine, prompts: list[tuple[int, ...]], wishes: dict[str, float]
) -> None:
    whole = alone(engine, prompts[:1], **wishes)[0]
    for seam in range(1, len(whole), 4):
        request = greedy(0, prompts[0], **wishes)
        resumed = EngineRequest(0, request.prompt, request.params, (ChoiceState(0, tuple(whole[:seam])),))
        assert whole[:seam] + run(engine, [resumed])[0] == whole


def test_n_choices_share_the_prompt_and_differ(engine: NativeEngine, prompts: list[tuple[int, ...]]) -> None:
    prompt = tuple((prompts[1] * 8)[:70])
    params = SamplingParams(max_tokens=12, seed=3, temperature=1.0)
    before = engine.stats()
    engine.submit(EngineRequest(7, prompt, params, tuple(ChoiceState(index) for index in range(3))))
    texts: dict[int, list[int]] = {0: [], 1: [], 2: []}
    finished = most_used = 0
    for output in engine.events():
        for emission in output.emissions:
            texts[emission.choice] += emission.tokens
        most_used = max(most_used, engine.stats().kv_blocks_used)
        finished += len(output.finishes)
        if finished == 3:
            break
    assert len({tuple(text) for text in texts.values()}) == 3
    assert most_used <= 2 + 3  # two full blocks of the prompt, and one more for each choice
    assert engine.stats().prompt_tokens - before.prompt_tokens == len(prompt)
    for index, text in texts.items():
        engine.submit(EngineRequest(8, prompt, params, (ChoiceState(index),)))
        assert _only(engine) == text


def _only(engine: NativeEngine) -> list[int]:
    text: list[int] = []
    for output in engine.events():
        for emission in output.emissions:
            text += emission.tokens
        if output.finishes:
            return text
    raise AssertionError("the engine ended")
