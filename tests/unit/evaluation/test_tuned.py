"""What fine-tunings make is judged on the engine that would serve it; planted bad ones are refused with evidence."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pileus.core.ports import AdaptableEngine, EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.engines.native.engine import NativeEngine
from pileus.engines.native.graph import Graph
from pileus.engines.native.options import NativeOptions
from pileus.engines.native.reading import Reader
from pileus.evaluation.measuring import Item, Piece, TunedMeasure
from pileus.evaluation.records import Finding
from pileus.evaluation.tuned import Bench, Served, loss_finding, tuned_findings
from pileus.models.adapter import Belonging, belonging_to
from pileus.models.artefact import ADAPTER_WEIGHTS, load_artefact
from pileus.models.low_rank import PeftReader, install_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.models.tokenizer import load_tokenizer
from pileus.testing.adapters import Arrays, Sizes, random_tensors, tensor_name, write_adapter, write_safetensors
from planted_models import change_matrix, copy, seal
from tuned import BASE, install_tiny_base

SIZES: Sizes = {
    "q_proj": (32, 32),
    "k_proj": (32, 16),
    "v_proj": (32, 16),
    "o_proj": (32, 32),
    "gate_proj": (32, 48),
    "up_proj": (32, 48),
    "down_proj": (48, 32),
}
OPTIONS = NativeOptions(kv_bytes=1 << 20, max_sequences=4, adapters=1, prefix_caching=False)
MARGIN = 0.02
PROMPTS = np.random.default_rng(2).integers(3, 267, (12, 12))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a base."""
    data = tmp_path_factory.mktemp("data")
    install_tiny_base(data)
    return data / "models"


@pytest.fixture(scope="module")
def items(models: Path) -> Sequence[Item]:
    """What the base itself says, so that it finds it likely."""
    return tuple(spoken(serve(models / "artefacts" / BASE).engine))


def serve(folder: Path) -> Served:
    graph = Graph(folder, OPTIONS)
    return Served(NativeEngine(EngineSpec("tiny", folder, OPTIONS, adapters=PeftReader()), graph), Reader(graph))


def spoken(engine: AdaptableEngine) -> Iterator[Item]:
    texts = [[int(token) for token in prompt] for prompt in PROMPTS]
    for number, prompt in enumerate(texts):
        engine.submit(EngineRequest(number, tuple(prompt), SamplingParams(max_tokens=12, seed=0, temperature=0.0)))
    ended, steps = 0, engine.events()
    while ended < len(texts):
        step = next(steps)
        ended += len(step.finishes)
        for emission in step.emissions:
            texts[emission.request] += emission.tokens
    engine.close()
    return (Item(Piece(tuple(text), (False,) * 12 + (True,) * 12)) for text in texts)


BENCH = Bench(load_tokenizer, serve)


def installed(models: Path, name: str, tensors: Arrays, base: Belonging | None = None) -> Path:
    store = ModelStore(models)
    belonging = base or belonging_to(load_artefact(models / "artefacts" / BASE))
    folder = write_adapter(models / "peft" / name, tensors, 4)
    with store.hold(name, silent):
        return install_adapter(folder, name, belonging, store, source="test").path


def adapter(models: Path, name: str, size: float = 0.001, **options: Any) -> Path:
    return installed(models, name, random_tensors(1, 4, sizes=SIZES, size=size, **options))


def judge(models: Path, items: Sequence[Item], *candidates: Path) -> list[tuple[Finding, ...]]:
    wish = TunedMeasure(
        candidates=tuple(map(str, candidates)),
        base=str(models / "artefacts" / BASE),
        items=tuple(items),
        held_out=True,
        margin=MARGIN,
    )
    return list(tuned_findings(BENCH, wish, silent))


def refused(models: Path, items: Sequence[Item], candidate: Path) -> Finding:
    [found] = judge(models, items, candidate)
    assert [each.passed for each in found] == [True] * (len(found) - 1) + [False]
    return found[-1]


def test_good_adapters_pass_each_check_and_each_is_read_by_itself(models: Path, items: Sequence[Item]) -> None:
    found = judge(
        models, items, adapter(models, "good"), adapter(models, "damaged", size=1.0), adapter(models, "again")
    )
    good, damaged, again = found
    for passing in (good, again):
        assert [each.check for each in passing] == ["manifest", "weights", "engine", "loss"]
        assert all(each.passed for each in passing), passing
    assert good[2].figures["prompts"] == 4
    assert good[3].figures["items"] == 12
    assert good[3].figures == again[3].figures
    assert not damaged[3].passed  # quietly: all its weights are finite, and the engine takes it
    assert damaged[3].figures["low"] > MARGIN
    assert "12 held-out items" in damaged[3].says


def test_a_number_that_is_none_is_found_and_named(models: Path, items: Sequence[Item]) -> None:
    folder = adapter(models, "nan")
    tensors = random_tensors(1, 4, sizes=SIZES)
    tensors[tensor_name(1, "v_proj", "B")][0, :3] = np.nan
    write_safetensors(folder / ADAPTER_WEIGHTS, tensors)
    seal(folder)
    finding = refused(models, items, folder)
    assert finding.check == "weights"
    assert "layers.1.self_attn.v_proj" in finding.says


def test_an_adapter_of_another_base_and_one_that_changed_are_refused_by_their_manifests(
    models: Path, items: Sequence[Item]
) -> None:
    stranger = installed(models, "stranger", random_tensors(1, 4, sizes=SIZES), Belonging(base="x", base_sha256="0"))
    assert "made for x" in refused(models, items, stranger).says
    changed = adapter(models, "changed")
    with (changed / ADAPTER_WEIGHTS).open("ab") as file:
        file.write(b"more")
    finding = refused(models, items, changed)
    assert (finding.check, ADAPTER_WEIGHTS in finding.says) == ("manifest", True)


def test_what_the_engine_does_not_take_or_cannot_compute_is_refused(models: Path, items: Sequence[Item]) -> None:
    misfit = installed(models, "misfit", random_tensors(1, 4))
    finding = refused(models, items, misfit)
    assert (finding.check, "does not fit" in finding.says) == ("engine", True)
    finding = refused(models, items, adapter(models, "vast", size=1e18))
    assert finding.check == "engine"
    assert "no probability that is a number" in finding.says


@pytest.mark.parametrize("damages", [False, True])
def test_a_model_of_its_own_is_held_to_its_base_too(models: Path, items: Sequence[Item], damages: bool) -> None:
    made = copy(models / "artefacts" / BASE, f"full-{damages}")
    if damages:
        _change(made, lambda values: values.__imul__(-3))
    [found] = judge(models, items, made)
    assert [each.check for each in found] == ["manifest", "weights", "tokenizer", "engine", "loss"]
    assert [each.passed for each in found] == [True] * 4 + [not damages]


def _change(made: Path, change: Callable[[Any], Any]) -> None:
    for which in range(7):
        change_matrix(made, which, change)


def test_without_items_nothing_is_read(models: Path) -> None:
    [found] = judge(models, (), adapter(models, "unread"))
    assert [each.check for each in found] == ["manifest", "weights", "engine"]


def losses(*values: float) -> NDArray[np.float64]:
    return np.array(values)


PIECE = Piece((1, 2), (False, True))
PREFERENCE = Item(PIECE, PIECE)


@pytest.mark.parametrize(
    ("better", "worse", "passes"),
    [(0.5, 2.0, True), (1.0, 1.0, True), (1.5, 0.5, False), (float("nan"), 1.0, False)],
    ids=["likelier", "as before", "less likely", "no number"],
)
def test_preferences_cost_what_they_cost_by_dpo(better: float, worse: float, passes: bool) -> None:
    wish = TunedMeasure(candidates=(), base="", items=(PREFERENCE,) * 4, held_out=False, margin=MARGIN, beta=0.5)
    finding = loss_finding([(losses(1.0), losses(1.0))] * 4, [(losses(better), losses(worse))] * 4, wish)
    assert finding.passed is passes
    if np.isfinite(better):
        expected = np.log1p(np.exp(-0.5 * ((1.0 - better) - (1.0 - worse)))) - np.log(2)
        assert finding.figures["difference"] == pytest.approx(expected)
    assert "items that it learnt from" in finding.says
    assert all(np.isfinite(value) for value in finding.figures.values())


def test_a_few_lucky_items_do_not_make_up_for_many_worse_ones() -> None:
    """The difference is of tokens, and the interval of items."""
    wish = TunedMeasure(candidates=(), base="", items=(Item(PIECE),) * 10, held_out=True, margin=MARGIN)
    base = [(losses(1.0, 1.0),)] * 10
    lucky = [(losses(0.1, 0.1),)] + [(losses(1.05, 1.05),)] * 9
    finding = loss_finding(base, lucky, wish)
    assert finding.figures["difference"] == pytest.approx((0.1 + 9 * 1.05) / 10 - 1)
    assert not finding.passed  # better on average, but nobody can be sure
