"""What cannot be served is refused by name, before anything of it is used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_models import TOKENS, write_tiny_gguf
from pileus.core.errors import ModelRefused
from pileus.models.artefact import CHAT_TEMPLATE, read_generation
from pileus.models.convert.dispatch import convert
from pileus.models.progress import silent

safetensors_numpy = pytest.importorskip("safetensors.numpy")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def add_weights(folder: Path, without: str = "", **replaced: tuple[int, ...]) -> None:
    layer = "model.layers.0"
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (len(TOKENS), 32), "model.norm": (32,)}
    shapes |= {f"{layer}.self_attn.{kind}_proj": (32, 32) for kind in "qkvo"}
    shapes |= {f"{layer}.mlp.gate_proj": (64, 32), f"{layer}.mlp.up_proj": (64, 32), f"{layer}.mlp.down_proj": (32, 64)}
    shapes |= {f"{layer}.input_layernorm": (32,), f"{layer}.post_attention_layernorm": (32,)} | replaced
    tensors = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items() if name != without}
    safetensors_numpy.save_file(tensors, folder / "model.safetensors")


def test_a_folder_becomes_an_artefact(huggingface_folder: Path, target: Path) -> None:
    add_weights(huggingface_folder)
    (huggingface_folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    templates = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "{{ bos_token }}"}]
    settings = {"chat_template": templates, "bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    (huggingface_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    convert(huggingface_folder, target, silent)
    generation = read_generation(target)
    assert generation.stop_ids == (2, 0)
    assert (generation.bos_id, generation.bos_token, generation.eos_token) == (1, "<|im_start|>", "<|im_end|>")
    assert (target / CHAT_TEMPLATE).read_text() == "{{ bos_token }}"


def test_a_tokenizer_that_cuts_prompts_is_kept_from_it(huggingface_folder: Path, target: Path) -> None:
    add_weights(huggingface_folder)
    file = huggingface_folder / "tokenizer.json"
    cutting = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": cutting}))
    convert(huggingface_folder, target, silent)
    assert json.loads((target / "tokenizer.json").read_text())["truncation"] is None


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.ckpt"])
def test_attack_31_a_pickle_is_refused(huggingface_folder: Path, target: Path, name: str) -> None:
    (huggingface_folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelRefused, match=f"{name} is a pickle"):
        convert(huggingface_folder, target, silent)
    with pytest.raises(ModelRefused, match="a pickle can run code"):
        convert(huggingface_folder / name, target, silent)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_attack_32_a_models_own_code_is_refused(huggingface_folder: Path, target: Path, name: str) -> None:
    add_weights(huggingface_folder)
    file = huggingface_folder / name
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ModelRefused, match=rf"{name} asks for code .*auto_map"):
        convert(huggingface_folder, target, silent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "architecture 'MambaForCausalLM' is not supported"),
        ({"architectures": []}, "architecture None"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"rope_scaling": {"type": "linear"}}, "lacks factor"),
        ({"partial_rotary_factor": 0.5}, "part of each head"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}, "sliding window"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
        ({"num_hidden_layers": 2}, r"model\.layers\.1\.input_layernorm\.weight is missing"),
    ],
)
def test_a_variant_that_the_graph_lacks_is_named(
    huggingface_folder: Path, target: Path, changes: dict[str, Any], reason: str
) -> None:
    add_weights(huggingface_folder)
    configure(huggingface_folder, **changes)
    with pytest.raises(ModelRefused, match=reason):
        convert(huggingface_folder, target, silent)


def test_missing_pieces_are_named(huggingface_folder: Path, target: Path) -> None:
    with pytest.raises(ModelRefused, match=r"model\.safetensors is missing"):
        convert(huggingface_folder, target, silent)
    add_weights(huggingface_folder, without="model.norm")
    with pytest.raises(ModelRefused, match=r"model\.norm\.weight is missing"):
        convert(huggingface_folder, target, silent)
    (huggingface_folder / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is missing"):
        convert(huggingface_folder, target, silent)


def test_weights_that_do_not_fit_together_are_refused(huggingface_folder: Path, target: Path) -> None:
    add_weights(huggingface_folder, **{"model.layers.0.mlp.up_proj": (65, 32)})
    with pytest.raises(ModelRefused, match="do not fit together"):
        convert(huggingface_folder, target, silent)


def test_an_index_that_leaves_the_folder_is_refused(huggingface_folder: Path, target: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (huggingface_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelRefused, match="not a file of the folder"):
        convert(huggingface_folder, target, silent)


def test_a_gguf_of_another_architecture_is_refused(tmp_path: Path, target: Path) -> None:
    write_tiny_gguf(tmp_path / "x.gguf", architecture="mamba")
    with pytest.raises(ModelRefused, match="architecture 'mamba' is not supported"):
        convert(tmp_path / "x.gguf", target, silent)


def test_a_gguf_that_splits_text_in_an_unknown_way_is_refused(tmp_path: Path, target: Path) -> None:
    write_tiny_gguf(tmp_path / "x.gguf", pre="kimi-k2")
    with pytest.raises(ModelRefused, match="'kimi-k2'"):
        convert(tmp_path / "x.gguf", target, silent)


def adopted(folder: Path, source: Path, change: Callable[[Path], object] = lambda folder: None) -> Path:
    """A folder as optimum-intel exports it, made of one that was converted here."""
    exported = folder / "exported"
    exported.mkdir()
    for name in ("openvino_model.xml", "openvino_model.bin", "tokenizer.json"):
        shutil.copy(folder / "target" / name, exported)
    shutil.copy(source / "config.json", exported)
    change(exported)
    return exported


def test_a_folder_that_is_openvino_already_is_taken_as_it_is(
    tmp_path: Path, huggingface_folder: Path, target: Path
) -> None:
    add_weights(huggingface_folder)
    convert(huggingface_folder, target, silent)
    again = tmp_path / "again"
    again.mkdir()
    convert(adopted(tmp_path, huggingface_folder), again, silent)
    for name in ("openvino_model.xml", "openvino_model.bin", "tokenizer.json", "generation.json"):
        assert (again / name).read_bytes() == (target / name).read_bytes()


def test_an_openvino_folder_with_weights_cut_short_is_refused(
    tmp_path: Path, huggingface_folder: Path, target: Path
) -> None:
    add_weights(huggingface_folder)
    convert(huggingface_folder, target, silent)
    exported = adopted(tmp_path, huggingface_folder, lambda folder: (folder / "openvino_model.bin").write_bytes(b"x"))
    with pytest.raises(ModelRefused, match=r"openvino_model\.xml cannot be read"):
        convert(exported, tmp_path, silent)
