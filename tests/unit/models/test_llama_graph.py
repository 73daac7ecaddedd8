"""The graph against the reference: Transformers on PyTorch, in float32."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from pileus.models.artefact import read_generation
from pileus.models.convert.dispatch import convert
from pileus.models.progress import silent
from reference_models import logits_of, save_reference, write_as_gguf

IDS = np.array([[5, 17, 3, 99, 200, 41, 41, 7, 250, 12, 64, 128]])

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}

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


def our_logits(xml: Path, chunks: list[NDArray[np.int64]]) -> NDArray[np.float32]:
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
def test_logits_equal_those_of_transformers(tmp_path: Path, variant: str, dtype: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    reference = save_reference(source, *VARIANTS[variant], dtype)

    convert(source, target, silent)

    expected = logits_of(reference, IDS)
    whole = our_logits(target / "openvino_model.xml", [IDS])
    in_chunks = our_logits(target / "openvino_model.xml", [IDS[:, :5], IDS[:, 5:6], IDS[:, 6:]])
    np.testing.assert_allclose(whole, expected, atol=1e-3)
    np.testing.assert_allclose(in_chunks, expected, atol=1e-3)
    assert np.abs(expected).max() > 0.5  # random, but not nothing
    generation = read_generation(target)
    assert generation.context_length == 256
    assert generation.vocab_size == 267


@pytest.mark.parametrize(("kind", "architecture"), [("LlamaConfig", "llama"), ("Qwen2Config", "qwen2")])
def test_a_gguf_gives_the_logits_of_the_folder_that_it_was_made_from(
    tmp_path: Path, kind: str, architecture: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    options = {"attention_bias": True} if architecture == "llama" else {}
    reference = save_reference(source, kind, {"tie_word_embeddings": False, **options})
    write_as_gguf(reference, architecture, tmp_path / "model.gguf")

    convert(tmp_path / "model.gguf", target, silent)

    expected = logits_of(reference, IDS)
    np.testing.assert_allclose(our_logits(target / "openvino_model.xml", [IDS]), expected, atol=1e-3)


def test_padding_on_the_left_changes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    save_reference(source, *VARIANTS["llama"])
    convert(source, target, silent)
    expected = our_logits(target / "openvino_model.xml", [IDS])

    request = ov.Core().compile_model(target / "openvino_model.xml", "CPU", EXACT)
    padded = np.concatenate([np.zeros((1, 3), np.int64), IDS], axis=1)
    mask = np.concatenate([np.zeros((1, 3), np.int64), np.ones_like(IDS)], axis=1)
    positions = np.concatenate([np.zeros((1, 3), np.int64), np.arange(IDS.shape[1])[None]], axis=1)
    outcome = request.create_infer_request().infer(
        {"input_ids": padded, "attention_mask": mask, "position_ids": positions, "beam_idx": np.zeros(1, np.int32)}
    )
    np.testing.assert_allclose(outcome["logits"][:, 3:], expected, atol=1e-4)
