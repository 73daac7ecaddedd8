"""Adapters on the engine itself: as the merged model answers, whatever else is in the batch."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import log_softmax

from contract.running_engine import Answer, RunningEngine
from pileus.core.errors import ModelRefused
from pileus.core.ports import AdapterSource, EngineSpec
from pileus.core.records import ChoiceState, EngineRequest, FinishReason, SamplingParams
from pileus.engines.native import DRIVER
from pileus.engines.native.options import NativeOptions
from pileus.models.adapter import Belonging, adapter_id
from pileus.models.convert.dispatch import convert
from pileus.models.low_rank import PeftReader, install_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.testing.adapters import merged, random_tensors, write_adapter
from reference_models import logits_of, save_reference, torch, write_as_gguf

CONTEXT = 256
BASE = Belonging(base="made", base_sha256="0" * 64)
LONG = tuple(int(token) for token in np.random.default_rng(3).integers(3, 267, 70))
PROMPT = (5, 17, 3, 99, 200)
# Ranks differ, and so do the projections that they change: the graph grows twice.
WISHES: dict[str, dict[str, Any]] = {
    "attention": {"rank": 4, "targets": ("q_proj", "v_proj")},
    "all": {"rank": 8},
    "wide": {"rank": 12, "targets": ("o_proj", "down_proj")},
}


class House(NamedTuple):
    """A model, adapters of it, and the models that they make when they are merged."""

    reference: Any
    folders: dict[str, Path]
    sources: dict[str, AdapterSource]
    merged: dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("house")
    (root / "hf").mkdir()
    reference = save_reference(root / "hf", "LlamaConfig", {"tie_word_embeddings": True})
    write_as_gguf(reference, "llama", root / "model.gguf")
    folders = {}
    for kind, source in {"folder": root / "hf", "gguf": root / "model.gguf"}.items():
        folders[kind] = root / kind
        folders[kind].mkdir()
        convert(source, folders[kind], silent)
    store, sources, models = ModelStore(root / "models"), {}, {}
    weights = {name: value.numpy() for name, value in reference.state_dict().items()}
    for seed, (name, wish) in enumerate(WISHES.items()):
        tensors = random_tensors(seed, **wish)
        folder = write_adapter(root / "peft" / name, tensors, wish["rank"])
        with store.hold(name, silent):
            artefact = install_adapter(folder, name, BASE, store, source="test")
        sources[name] = AdapterSource(adapter_id(artefact), str(artefact.path))
        models[name] = save_merged(root, reference, merged(weights, tensors))
    return House(reference, folders, sources, models)


def save_merged(root: Path, reference: Any, weights: dict[str, Any]) -> Any:
    model = type(reference)(reference.config)
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return model.eval()


def open_engine(house: House, kind: str = "folder", **options: Any) -> RunningEngine:
    wishes = NativeOptions(**{"deterministic": True, "step_tokens": 32, "kv_bytes": 1 << 22, **options})
    engine = DRIVER.open(EngineSpec("made", house.folders[kind], wishes, CONTEXT, PeftReader()))
    return RunningEngine(engine)


@pytest.fixture(params=["folder", "gguf"])
def engine(request: pytest.FixtureRequest, house: House) -> Iterator[RunningEngine]:
    running = open_engine(house, request.param)
    for source in house.sources.values():
        running.engine.load_adapter(source)  # type: ignore[attr-defined]
    yield running
    running.close()


def ask(
    house: House, adapter: str, prompt: tuple[int, ...] = PROMPT, emitted: tuple[int, ...] = (), **wishes: Any
) -> EngineRequest:
    params = SamplingParams(**{"max_tokens": 16, "seed": 1, "temperature": 0, "logprobs": 3, **wishes})
    return EngineRequest(
        0, prompt, params, (ChoiceState(0, emitted),), b"t", adapter=house.sources[adapter].id if adapter else ""
    )


def assert_as(model: Any, answer: Answer) -> None:
    """Greedy tokens and their log probabilities are that model's."""
    prompt, said = answer.request.prompt, answer.only
    assert answer.finish.reason is FinishReason.LENGTH, answer.finish.error
    logits = logits_of(model, [[*prompt, *said]])[0, len(prompt) - 1 : -1]
    expected = log_softmax(logits.astype(np.float64), axis=-1)
    assert said == expected.argmax(axis=-1).tolist()
    told = [entry.logprob for entry in answer.logprobs[0]]
    np.testing.assert_allclose(told, expected.max(axis=-1), atol=1e-3)


def test_one_batch_of_several_adapters_answers_as_the_merged_models_do(house: House, engine: RunningEngine) -> None:
    names = ["", *WISHES]
    models = {"": house.reference, **house.merged}
    requests = [(name, prompt) for prompt in (PROMPT, LONG) for name in names]
    answers = engine.run(*(ask(house, name, prompt) for name, prompt in requests))
    for (name, _), answer in zip(requests, answers, strict=True):
        assert_as(models[name], answer)
    texts = {name: answer.only for (name, _), answer in zip(requests, answers, strict=True)}
    assert len({tuple(text) for text in texts.values()}) == len(names)  # each adapter changes what is said


def test_a_long_prompt_is_read_with_its_adapter_while_others_answer(house: House) -> None:
    """In one step, whose tiles are of two kinds then."""
    engine = open_engine(house, step_tokens=256)
    for source in house.sources.values():
        engine.engine.load_adapter(source)  # type: ignore[attr-defined]
    engine.run(*(ask(house, name, max_tokens=1) for name in WISHES))  # so that all are loaded
    names = [*WISHES, "all"]
    answers = engine.run(*(ask(house, name, LONG * 2 if name == "all" else PROMPT) for name in names))
    for name, answer in zip(names, answers, strict=True):
        assert_as(house.merged[name], answer)
    engine.close()


def test_an_answer_is_the_same_alone_and_resumed_and_in_company(house: House, engine: RunningEngine) -> None:
    names = [*WISHES, ""] * 3
    company = engine.run(*(ask(house, name, temperature=0.9, seed=3) for name in names))
    for name, answer in zip(names[:3], company, strict=False):
        [alone] = engine.run(ask(house, name, temperature=0.9, seed=3))
        [resumed] = engine.run(ask(house, name, emitted=tuple(alone.only[:7]), temperature=0.9, seed=3))
        assert alone.only == answer.only
        assert resumed.only == alone.only[7:]


def test_prefixes_are_shared_within_an_adapter_only(house: House, engine: RunningEngine) -> None:
    first, other, again = (engine.run(ask(house, name, LONG))[0] for name in ("all", "attention", "all"))
    assert [answer.started[0].cached_tokens for answer in (first, other, again)] == [0, 0, 64]
    assert again.only == first.only


def test_more_adapters_than_slots_take_turns(house: House) -> None:
    engine = open_engine(house, adapters=1, max_sequences=4)
    try:
        for source in house.sources.values():
            engine.engine.load_adapter(source)  # type: ignore[attr-defined]
        names = [*WISHES, *WISHES, ""]
        answers = engine.run(*(ask(house, name) for name in names))
        for name, answer in zip(names, answers, strict=True):
            assert_as(house.merged.get(name, house.reference), answer)
    finally:
        engine.close()


def test_an_adapter_that_is_not_loaded_and_one_that_is_gone_are_refused(house: House, engine: RunningEngine) -> None:
    engine.engine.unload_adapter(house.sources["wide"].id)  # type: ignore[attr-defined]
    good, gone = engine.run(ask(house, "all"), ask(house, "wide"))
    assert good.finish.reason is FinishReason.LENGTH
    assert gone.finish.reason is FinishReason.ERROR
    assert "wide" in gone.finish.error
    engine.engine.load_adapter(house.sources["wide"])  # type: ignore[attr-defined]
    [back] = engine.run(ask(house, "wide"))
    assert_as(house.merged["wide"], back)


def test_an_adapter_damaged_on_disk_fails_its_own_requests_only(house: House, tmp_path: Path) -> None:
    engine = open_engine(house)
    try:
        store = ModelStore(tmp_path / "models")
        folder = write_adapter(tmp_path / "peft", random_tensors(9, 4), 4)
        with store.hold("hurt", silent):
            artefact = install_adapter(folder, "hurt", BASE, store, source="test")
        source = AdapterSource(adapter_id(artefact), str(artefact.path))
        engine.engine.load_adapter(source)  # type: ignore[attr-defined]
        weights = artefact.path / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 64
        weights.write_bytes(content)
        hurt = EngineRequest(0, PROMPT, SamplingParams(max_tokens=4, seed=1), adapter=source.id)
        bad, good = engine.run(hurt, ask(house, ""))
        assert bad.finish.reason is FinishReason.ERROR
        assert "has changed since it was installed" in bad.finish.error
        assert_as(house.reference, good)
    finally:
        engine.close()


class SlowReader(PeftReader):
    """Reads when it is let."""

    def __init__(self) -> None:
        self.reads, self.may_read = threading.Event(), threading.Event()

    def weights(self, path: Path) -> Any:  # type: ignore[override]
        self.reads.set()
        assert self.may_read.wait(60)
        return super().weights(path)


def test_a_slow_load_is_told_and_holds_up_nobody_else(house: House) -> None:
    reader = SlowReader()
    options = NativeOptions(deterministic=True, kv_bytes=1 << 22)
    engine = RunningEngine(DRIVER.open(EngineSpec("made", house.folders["folder"], options, CONTEXT, reader)))
    try:
        engine.engine.load_adapter(house.sources["all"])  # type: ignore[attr-defined]
        slow = engine.submit(ask(house, "all"))
        assert reader.reads.wait(60)
        [other] = engine.run(ask(house, ""))
        assert_as(house.reference, other)
        assert not slow.finished
        stats = engine.engine.stats()
        assert (stats.running, stats.waiting, stats.loading) == (0, 1, 1)
        reader.may_read.set()
        engine.wait(lambda: slow.finished)
        assert_as(house.merged["all"], slow)
        assert engine.engine.stats().loading == 0
    finally:
        reader.may_read.set()
        engine.close()


def test_one_that_is_cancelled_while_its_adapter_is_loaded_leaves_nothing_behind(house: House) -> None:
    reader = SlowReader()
    options = NativeOptions(deterministic=True, kv_bytes=1 << 22)
    engine = RunningEngine(DRIVER.open(EngineSpec("made", house.folders["folder"], options, CONTEXT, reader)))
    try:
        engine.engine.load_adapter(house.sources["all"])  # type: ignore[attr-defined]
        gone = engine.submit(ask(house, "all"))
        assert reader.reads.wait(60)
        engine.cancel(gone)
        engine.wait(lambda: gone.finished)
        assert gone.finish.reason is FinishReason.CANCELLED
        reader.may_read.set()
        [again] = engine.run(ask(house, "all"))
        assert_as(house.merged["all"], again)
        assert engine.outputs[-1].credit == engine.full_credit
    finally:
        reader.may_read.set()
        engine.close()


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"rank": 4, "layers": 3}, "layers.2.q_proj, which this model does not have"),
        ({"rank": 4, "sizes": {"q_proj": (32, 64)}, "targets": ("q_proj",)}, "layers.0.q_proj is 64 x 64"),
        ({"rank": 80, "targets": ("q_proj",)}, "rank 80"),
    ],
)
def test_an_adapter_of_another_shape_is_refused_by_name(
    house: House, tmp_path: Path, wish: dict[str, Any], reason: str
) -> None:
    engine = open_engine(house)
    store = ModelStore(tmp_path / "models")
    folder = write_adapter(tmp_path / "peft", random_tensors(1, **wish), wish["rank"])
    with store.hold("odd", silent):
        artefact = install_adapter(folder, "odd", BASE, store, source="test")
    with pytest.raises(ModelRefused, match=reason):
        engine.engine.load_adapter(AdapterSource("odd", str(artefact.path)))  # type: ignore[attr-defined]
    engine.close()
