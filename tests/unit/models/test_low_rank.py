"""Adapters as PEFT writes them: what is read, and what is refused, by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.adapter import Belonging, adapter_id, check_belongs
from pileus.models.artefact import ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS, Artefact
from pileus.models.low_rank import adapter_shapes, import_adapter, read_adapter, read_peft
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.testing.adapters import merged, random_tensors, tensor_name, write_adapter

BASE = Belonging(base="small", base_sha256="1" * 64)


def installed(tmp_path: Path, name: str = "mine", seed: int = 1, **config: Any) -> Artefact:
    folder = write_adapter(tmp_path / "peft", random_tensors(seed, 4), 4, **config)
    return import_adapter(folder, name, BASE, ModelStore(tmp_path / "models"), silent)


def test_what_is_read_is_what_peft_computes_with(tmp_path: Path) -> None:
    tensors = random_tensors(1, 4)
    weights = read_peft(write_adapter(tmp_path, tensors, 4, lora_alpha=12))
    assert weights.rank == 4
    assert len(weights.changes) == len(tensors) // 2
    change = weights.changes[1, "down_proj"]
    a, b = (tensors[tensor_name(1, "down_proj", half)] for half in "AB")
    np.testing.assert_allclose(change.a @ change.b, (b @ a).T * 12 / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "place", "scale"),
    [
        ({"use_rslora": True}, (0, "q_proj"), 8 / 4**0.5),
        ({"alpha_pattern": {"q_proj": 20}}, (0, "q_proj"), 5.0),
        ({"alpha_pattern": {"q_proj": 20}}, (0, "v_proj"), 2.0),
        ({"alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 20}}, (0, "q_proj"), 2.0),
        ({"alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 20}}, (1, "q_proj"), 5.0),
    ],
)
def test_the_scale_is_that_of_the_projection(
    tmp_path: Path, config: dict[str, Any], place: tuple[int, str], scale: float
) -> None:
    tensors = random_tensors(1, 4)
    change = read_peft(write_adapter(tmp_path, tensors, 4, **config)).changes[place]
    np.testing.assert_allclose(change.b, tensors[tensor_name(*place, "B")].T * scale, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT calls what Transformers deprecates
def test_it_reads_what_peft_writes_and_answers_as_its_merged_model(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    import peft
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    wishes = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], rank_pattern={"layers.1.mlp.down_proj": 2}
    )
    adapted = peft.get_peft_model(model, wishes)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(tmp_path)
    changes = read_peft(tmp_path).changes
    assert {place: change.a.shape[1] for place, change in changes.items()} == {
        (0, "q_proj"): 4,
        (1, "q_proj"): 4,
        (0, "down_proj"): 4,
        (1, "down_proj"): 2,
    }
    after = adapted.merge_and_unload().state_dict()
    for (layer, target), change in changes.items():
        block = "self_attn" if target == "q_proj" else "mlp"
        name = f"model.layers.{layer}.{block}.{target}.weight"
        np.testing.assert_allclose(after[name].numpy().T, before[name].T + change.a @ change.b, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"use_dora": True}, "`use_dora`"),
        ({"bias": "all"}, "`bias` 'all'"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"fan_in_fan_out": True}, "`fan_in_fan_out`"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"r": 0}, "rank `r` is 0"),
        ({"r": "four"}, "malformed"),
        ({"r": 8}, "not of rank 8"),
        ({"rank_pattern": {"q_proj": 2}}, "layers.0.q_proj has A .* not of rank 2"),
    ],
)
def test_what_it_does_not_support_is_refused_by_name(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        read_peft(write_adapter(tmp_path, random_tensors(1, 4), 4, **config))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensors = random_tensors(1, 4)
    tensors[tensor_name(1, "v_proj", "A")][2, 3] = value
    with pytest.raises(ModelRefused, match=r"layers.1.self_attn.v_proj.lora_A.weight has values that are not finite"):
        read_peft(write_adapter(tmp_path, tensors, 4))


def test_half_a_change_and_a_change_of_something_else_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors(1, 4)
    del tensors[tensor_name(0, "k_proj", "B")]
    with pytest.raises(ModelRefused, match=r"layers.0.k_proj has lora_A alone"):
        read_peft(write_adapter(tmp_path / "half", tensors, 4))
    embedding = {"base_model.model.lm_head.lora_A.weight": np.ones((4, 8), np.float32)}
    with pytest.raises(ModelRefused, match=r"it changes base_model.model.lm_head"):
        read_peft(write_adapter(tmp_path / "head", embedding, 4))
    with pytest.raises(ModelRefused, match="has no weights"):
        read_peft(write_adapter(tmp_path / "none", {}, 4))


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    write_adapter(tmp_path, random_tensors(1, 4), 4)
    (tmp_path / ADAPTER_WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelRefused, match="never from pickles"):
        read_peft(tmp_path)


def test_an_installed_adapter_is_told_by_its_content(tmp_path: Path) -> None:
    first, same, other = (installed(tmp_path, name, seed) for name, seed in (("mine", 1), ("again", 1), ("other", 2)))
    assert adapter_shapes(first.path)[0, "gate_proj"] == (64, 4, 96)
    assert read_adapter(first.path).rank == 4
    assert adapter_id(first).startswith("mine@")
    assert len({adapter_id(each) for each in (first, same, other)}) == 3
    check_belongs(first, BASE)
    with pytest.raises(ModelRefused, match="made for small, and does not fit large"):
        check_belongs(first, Belonging(base="large", base_sha256="2" * 64))
    with pytest.raises(ModelRefused, match="another version of small"):
        check_belongs(first, Belonging(base="small", base_sha256="2" * 64))


def test_a_name_is_taken_once_and_nothing_bad_is_installed(tmp_path: Path) -> None:
    installed(tmp_path)
    with pytest.raises(OperatorError, match="mine is installed already"):
        installed(tmp_path)
    with pytest.raises(ModelRefused):
        installed(tmp_path, "bad", use_dora=True)
    assert ModelStore(tmp_path / "models").artefact("bad") is None


@pytest.mark.parametrize("name", [ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS])
def test_an_installed_adapter_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    artefact = installed(tmp_path)
    content = json.loads((artefact.path / name).read_text()) if name.endswith("json") else None
    (artefact.path / name).write_bytes(b"x" if content is None else json.dumps(content | {"more": 1}).encode())
    with pytest.raises(ModelRefused, match=f"{name} has changed"):
        read_adapter(artefact.path)


def test_merging_is_adding_the_product() -> None:
    tensors = random_tensors(1, 2, ["q_proj"], layers=1)
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = merged({name: np.zeros((64, 64), np.float32)}, tensors, 3.0)[name]
    expected = 3 * tensors[tensor_name(0, "q_proj", "B")] @ tensors[tensor_name(0, "q_proj", "A")]
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-5)
