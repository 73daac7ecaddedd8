"""Planted bad checkpoints are refused with evidence that names the cause; a good one passes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileus.evaluation.checks import findings
from pileus.evaluation.measuring import GateMeasure
from pileus.evaluation.records import Finding, WindowSpec
from pileus.models.artefact import MODEL_BIN
from pileus.models.tokenizer import load_tokenizer
from planted_models import change_matrix, copy, install, swap_tokens, train

PLACES = 7  # matrices of a layer


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    loss = train(folder)
    assert loss < 2.5, "it has learnt too little to show damage"
    return install(folder, tmp_path_factory.mktemp("models"), "parent")


def judge(candidate: Path, parent: Path, **options: Any) -> Sequence[Finding]:
    wish = GateMeasure(
        candidate=str(candidate), parent=str(parent), texts=(), windows=WindowSpec(length=128, stride=64), margin=0.05
    )
    wish = GateMeasure(**{field: getattr(wish, field) for field in wish.__struct_fields__} | options)
    return list(findings(load_tokenizer, wish, lambda *_: None))


def refused(found: Sequence[Finding]) -> Finding:
    [finding] = [each for each in found if not each.passed]
    return finding


def test_a_good_checkpoint_passes_every_check(parent: Path) -> None:
    good = copy(parent, "good")

    def jog(values: Any) -> None:
        values *= 1 + np.random.default_rng(5).normal(0, 0.004, len(values)).astype(values.dtype)

    for which in range(2 * PLACES):
        change_matrix(good, which, jog)
    found = judge(good, parent)
    assert [each.check for each in found] == ["manifest", "weights", "tokenizer", "perplexity"]
    assert all(each.passed for each in found), found
    assert found[-1].figures["ratio"] != 1.0  # it is another model, and was measured


def test_a_nan_layer_is_refused_and_named(parent: Path) -> None:
    bad = copy(parent, "nan")

    def plant(values: Any) -> None:
        values[:12] = np.nan

    change_matrix(bad, PLACES + 2, plant)
    finding = refused(judge(bad, parent))
    assert finding.check == "weights"
    assert "12 of " in finding.says
    assert "layer 1" in finding.says
    assert finding.figures["bad"] == 12


def test_quietly_damaged_weights_are_refused_by_perplexity(parent: Path) -> None:
    bad = copy(parent, "damaged")

    def damage(values: Any) -> None:
        values[: len(values) // 2] = 0

    change_matrix(bad, PLACES + 3, damage)
    finding = refused(judge(bad, parent))
    assert finding.check == "perplexity"
    assert finding.figures["low"] > 1.05
    assert "times the parent's" in finding.says


def test_a_swapped_tokenizer_is_refused_and_a_declared_one_is_held_to_perplexity(parent: Path) -> None:
    bad = copy(parent, "swapped")
    swap_tokens(bad)
    found = judge(bad, parent)
    tokenizer = next(each for each in found if each.check == "tokenizer")
    assert not tokenizer.passed
    assert "ids mean something else" in tokenizer.says
    declared = judge(bad, parent, new_tokenizer=True)
    assert next(each for each in declared if each.check == "tokenizer").passed
    finding = refused(declared)
    assert finding.check == "perplexity"
    assert finding.figures["ratio"] > 2


def test_a_file_that_changed_is_refused_before_it_is_looked_at(parent: Path) -> None:
    bad = copy(parent, "changed")
    with (bad / MODEL_BIN).open("r+b") as file:
        file.seek(100)
        file.write(b"\x01\x02\x03")
    [finding] = judge(bad, parent)
    assert finding.check == "manifest"
    assert not finding.passed
    assert MODEL_BIN in finding.says
