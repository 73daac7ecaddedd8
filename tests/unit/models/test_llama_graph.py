"""The graph against the reference: Transformers on PyTorch, in float32."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from made_models import add_tiny_vocabulary
from pileus.models.artefact import read_generation
from pileus.models.convert.dispatch import convert
from pileus.models.progress import silent

torch = pytest.importorskip("torch", reason="the reference extra is not installed")
transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")

IDS = np.array([[5, 17, 3, 99, 200, 41, 41, 7, 250, 12, 64, 128]])

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}

COMMON = {
    "vocab_size": 267,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama, separate head, every head its own keys": (
        "LlamaConfig",
        {"tie_word_embeddings": False, "num_key_value_heads": 4},
    ),
    "llama, biases, wide heads": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    "llama, stretched positions": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE}),
    "llama, linearly stretched": (
        "LlamaConfig",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 32}),
}


def save_reference(folder: Path, kind: str, options: dict[str, Any], dtype: Any) -> Any:
    """A random model of that kind, saved as a Hugging Face folder; returns it in float32."""
    torch.manual_seed(7)
    config = getattr(transformers, kind)(**(COMMON | options))
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):  # else they are all zeros or all ones
                parameter.copy_(torch.randn_like(parameter) * 0.5 + (0 if name.endswith("bias") else 1))
    model.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(xml: Path, chunks: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Run the chunks one after the other, so that the cache is used too."""
    request = ov.Core().compile_model(xml, "CPU", EXACT).create_infer_request()
    past, parts = 0, []
    for chunk in chunks:
        length = chunk.shape[1]
        inputs = {
            "input_ids": chunk,
            "attention_mask": np.ones((len(chunk), past + length), np.int64),
            "position_ids": np.tile(np.arange(past, past + length), (len(chunk), 1)),
            "beam_idx": np.arange(len(chunk), dtype=np.int32),
        }
        parts.append(request.infer(inputs)["logits"].copy())
        past += length
    return np.concatenate(parts, axis=1)


CASES = [(variant, "float32") for variant in VARIANTS]
CASES += [("llama", "bfloat16"), ("llama", "float16"), ("qwen2", "bfloat16")]


@pytest.mark.parametrize(("variant", "dtype"), CASES)
def test_logits_equal_those_of_transformers(
    tmp_path: Path, tiny_tokenizer: dict[str, Any], variant: str, dtype: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    reference = save_reference(source, *VARIANTS[variant], getattr(torch, dtype))
    (source / "tokenizer.json").write_text(json.dumps(tiny_tokenizer))

    convert(source, target, silent)

    with torch.no_grad():
        expected = reference(torch.tensor(IDS)).logits.numpy()
    whole = logits_of(target / "openvino_model.xml", [IDS])
    in_chunks = logits_of(target / "openvino_model.xml", [IDS[:, :5], IDS[:, 5:6], IDS[:, 6:]])
    np.testing.assert_allclose(whole, expected, atol=1e-3)
    np.testing.assert_allclose(in_chunks, expected, atol=1e-3)
    assert np.abs(expected).max() > 0.5  # random, but not nothing
    generation = read_generation(target)
    assert generation.context_length == 256
    assert generation.vocab_size == 267


@pytest.mark.parametrize(("kind", "architecture"), [("LlamaConfig", "llama"), ("Qwen2Config", "qwen2")])
def test_a_gguf_gives_the_logits_of_the_folder_that_it_was_made_from(
    tmp_path: Path, tiny_tokenizer: dict[str, Any], kind: str, architecture: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    options = {"attention_bias": True} if architecture == "llama" else {}
    reference = save_reference(
        source, kind, {"tie_word_embeddings": False, "vocab_size": 267, **options}, torch.float32
    )
    write_as_gguf(reference, architecture, tmp_path / "model.gguf")

    convert(tmp_path / "model.gguf", target, silent)

    with torch.no_grad():
        expected = reference(torch.tensor(IDS)).logits.numpy()
    np.testing.assert_allclose(logits_of(target / "openvino_model.xml", [IDS]), expected, atol=1e-3)


def write_as_gguf(model: Any, architecture: str, path: Path) -> None:
    """As llama.cpp's converter does: the rows of a Llama's queries and keys are paired up for its way to rotate."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    add_tiny_vocabulary(writer)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        values = parameter.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if architecture == "llama" and heads:
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_padding_on_the_left_changes_nothing(tmp_path: Path, tiny_tokenizer: dict[str, Any]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    save_reference(source, *VARIANTS["llama"], torch.float32)
    (source / "tokenizer.json").write_text(json.dumps(tiny_tokenizer))
    convert(source, target, silent)
    expected = logits_of(target / "openvino_model.xml", [IDS])

    request = ov.Core().compile_model(target / "openvino_model.xml", "CPU", EXACT)
    padded = np.concatenate([np.zeros((1, 3), np.int64), IDS], axis=1)
    mask = np.concatenate([np.zeros((1, 3), np.int64), np.ones_like(IDS)], axis=1)
    positions = np.concatenate([np.zeros((1, 3), np.int64), np.arange(IDS.shape[1])[None]], axis=1)
    outcome = request.create_infer_request().infer(
        {"input_ids": padded, "attention_mask": mask, "position_ids": positions, "beam_idx": np.zeros(1, np.int32)}
    )
    np.testing.assert_allclose(outcome["logits"][:, 3:], expected, atol=1e-4)
