import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

import torch

from pileus.compression.learning import Learner
from pileus.compression.prune import prune
from pileus.compression.spec import Distillation, Learning, Pruning
from pileus.compression.student import student_of
from reference_models import save_reference

CYCLE = [3 + place % 9 for place in range(400)]
ROW = torch.tensor([CYCLE[:40]])


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return save_reference(tmp_path / "model", "LlamaConfig", {"tie_word_embeddings": True, "initializer_range": 0.02})


def _loss(model: Any) -> float:
    with torch.no_grad():
        return float(model(input_ids=ROW, labels=ROW).loss)


def _go_on(step: int, loss: float) -> bool:
    return False


def test_a_model_learns_its_text(model: Any, tmp_path: Path) -> None:
    before = _loss(model)
    assert Learner(model, Learning(steps=40, batch=4, length=16, rate=3e-3), CYCLE, 0).run(tmp_path / "l", _go_on)
    assert _loss(model) < before / 2


def test_pruned_weights_stay_nought_while_the_others_learn(model: Any, tmp_path: Path) -> None:
    model, masks = prune(model, Pruning(by="magnitude", amount=0.5), [CYCLE[:32]])
    kept = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    Learner(model, Learning(steps=5, batch=2, length=16), CYCLE, 0, masks=masks).run(tmp_path / "l", _go_on)
    for name, mask in masks.items():
        assert (dict(model.named_parameters())[name][~mask] == 0).all()
    assert not torch.equal(kept, model.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize("signal", ["logits", "hidden"])
def test_a_student_comes_nearer_to_its_teacher(signal: str, model: Any, tmp_path: Path) -> None:
    """Without a word of truth: only the teacher says what is right."""
    teacher_before = {name: value.clone() for name, value in model.state_dict().items()}
    student, layers = student_of(model, Distillation(layers=1, start="random"), [CYCLE[:32]], 0)
    wish = Learning(steps=30, batch=4, length=16, rate=2e-3, truth=0.0, **{signal: 1.0})
    seen: list[float] = []

    def tell(step: int, loss: float) -> bool:
        seen.append(loss)
        return False

    Learner(student, wish, CYCLE, 0, teacher=model, layers=layers).run(tmp_path / "l", tell)
    assert seen[-1] < 0.7 * seen[0]
    assert all(torch.equal(value, teacher_before[name]) for name, value in model.state_dict().items())


def test_a_run_that_is_stopped_and_gone_on_with_ends_the_same(model: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    wish = Learning(steps=12, batch=2, length=16)
    Learner(model, wish, CYCLE, 4).run(tmp_path / "whole", _go_on)
    assert not Learner(other, wish, CYCLE, 4).run(tmp_path / "parts", lambda step, _: step == 4)
    fresh = copy.deepcopy(other)
    steps: list[int] = []

    def tell(step: int, loss: float) -> bool:
        steps.append(step)
        return False

    assert Learner(fresh, wish, CYCLE, 4).run(tmp_path / "parts", tell)
    assert steps == list(range(5, 12))
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_a_training_needs_is_asked_for(model: Any) -> None:
    with pytest.raises(ValueError, match="text of more than"):
        Learner(model, Learning(steps=1, length=128), CYCLE[:100], 0)
    with pytest.raises(ValueError, match="no teacher"):
        Learner(model, Learning(steps=1, logits=1.0), CYCLE, 0)
