from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

import torch

from pileus.compression.prune import input_norms, prune, thinner
from pileus.compression.spec import Distillation, Pruning
from pileus.compression.student import student_of
from pileus.jobs.handler import JobFailed
from reference_models import save_reference

IDS = [[int(token) for token in row] for row in np.random.default_rng(0).integers(3, 267, (4, 24))]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return save_reference(tmp_path, "LlamaConfig", {"tie_word_embeddings": True})


def _logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


def test_magnitude_takes_the_smallest_weights_of_a_matrix(model: Any) -> None:
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    pruned, masks = prune(model, Pruning(by="magnitude", amount=0.4), IDS)
    after = pruned.model.layers[0].mlp.up_proj.weight
    gone = after == 0
    assert gone.float().mean() == pytest.approx(0.4, abs=0.01)
    assert before[gone].abs().max() <= before[~gone].abs().min()
    assert torch.equal(masks["model.layers.0.mlp.up_proj.weight"], ~gone)


def test_wanda_weighs_what_a_weight_meets(model: Any) -> None:
    """In each row; an input that is never there is the first to go, however large its weights."""
    norms = input_norms(model, IDS)["model.layers.1.mlp.down_proj"]
    inputs = torch.cat([_down_inputs(model, ids) for ids in IDS])
    torch.testing.assert_close(norms, inputs.norm(dim=0), rtol=1e-4, atol=1e-4)
    before = model.model.layers[1].mlp.down_proj.weight.detach().clone()
    pruned, _ = prune(model, Pruning(by="wanda", amount=0.5), IDS)
    gone = pruned.model.layers[1].mlp.down_proj.weight == 0
    score = before.abs() * norms
    assert (gone.sum(dim=1) == 48).all()
    for row in range(len(gone)):
        assert score[row][gone[row]].max() <= score[row][~gone[row]].min()


def test_channels_that_give_nothing_go_without_a_trace(model: Any) -> None:
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, 10:42] = 0
    before = _logits(model)
    pruned, masks = prune(model, Pruning(by="channels", amount=1 / 3), IDS)
    assert (pruned.config.intermediate_size, masks) == (64, {})
    np.testing.assert_allclose(_logits(pruned), before, atol=1e-4)


def test_a_group_of_heads_that_gives_nothing_goes_without_a_trace(model: Any) -> None:
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:, :32] = 0  # the first group's two heads of 16
    before = _logits(model)
    pruned, _ = prune(model, Pruning(by="heads", amount=0.5), IDS)
    config = pruned.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 16)
    np.testing.assert_allclose(_logits(pruned), before, atol=1e-4)


def test_less_than_one_cannot_go(model: Any) -> None:
    with pytest.raises(JobFailed, match="fewer than one"):
        prune(model, Pruning(by="heads", amount=0.1), IDS)
    with pytest.raises(JobFailed, match="channels cannot lose"):
        prune(model, Pruning(by="channels", amount=0.1), IDS)


def test_a_student_begins_with_its_teachers_layers(model: Any) -> None:
    student, chosen = student_of(model, Distillation(layers=1, channels=0.5), IDS, 0)
    assert (chosen, student.config.num_hidden_layers, student.config.intermediate_size) == ([0], 1, 64)
    mine, other = student.model.layers[0], model.model.layers[0]
    assert torch.equal(mine.self_attn.q_proj.weight, other.self_attn.q_proj.weight)
    norms = input_norms(model, IDS)
    kept = thinner(model, 64, norms).model.layers[0].mlp.down_proj.weight
    assert mine.mlp.down_proj.weight.shape == kept.shape
    whole, both = student_of(model, Distillation(layers=2), IDS, 0)
    assert both == [0, 1]
    np.testing.assert_allclose(_logits(whole), _logits(model), atol=1e-5)


def test_a_random_student_has_nothing_of_its_teacher(model: Any) -> None:
    student, _ = student_of(model, Distillation(layers=1, start="random"), IDS, 3)
    again, _ = student_of(model, Distillation(layers=1, start="random"), IDS, 3)
    mine = student.model.layers[0].self_attn.q_proj.weight
    assert not torch.allclose(mine, model.model.layers[0].self_attn.q_proj.weight, atol=1e-2)
    assert torch.equal(mine, again.model.layers[0].self_attn.q_proj.weight)


def test_a_student_cannot_have_more_layers_than_its_teacher(model: Any) -> None:
    with pytest.raises(JobFailed, match="at most 2"):
        student_of(model, Distillation(layers=3), IDS, 0)


def _down_inputs(model: Any, ids: list[int]) -> Any:
    seen = []
    hook = model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0]))
    with torch.no_grad():
        model(torch.tensor([ids]))
    hook.remove()
    return seen[0]
