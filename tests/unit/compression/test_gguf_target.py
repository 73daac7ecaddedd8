"""Our blocks, read by gguf's own reader; and the whole file, read by our converter."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from made_models import tokenizer_content
from pileus.compression.gguf_target import QUANTISERS, write_gguf
from pileus.compression.spec import Form
from pileus.core.errors import ModelRefused
from pileus.models.convert import tokenizer_json
from pileus.models.convert.dispatch import convert
from pileus.models.perplexity import EXACT, Foreseer
from pileus.models.progress import silent

STEPS = {"Q8_0": 254, "Q4_0": 15, "Q4_1": 15}  # of the span of a block


@pytest.mark.parametrize("kind", QUANTISERS)
def test_a_block_gives_back_each_weight_within_a_step(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((8, 96)).astype(np.float32)
    values[0, :32] = 0
    packed = QUANTISERS[kind](values)
    again = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    assert again.shape == values.shape
    blocks, differences = values.reshape(-1, 32), np.abs(again - values).reshape(-1, 32)
    largest = 2 * np.abs(blocks).max(axis=1) if kind != "Q4_1" else np.ptp(blocks, axis=1)
    assert (differences.max(axis=1) <= 1.02 * largest / STEPS[kind] + 1e-6).all()
    assert (again[0, :32] == 0).all()


def test_q8_is_as_the_reference_quantises() -> None:
    values = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    theirs = gguf.quants.dequantize(
        gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    ours = gguf.quants.dequantize(QUANTISERS["Q8_0"](values), gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_a_tokenizer_survives_the_way_there_and_back() -> None:
    content = tokenizer_content()
    metadata = tokenizer_json.take_apart(content, 267)
    assert tokenizer_json.build(metadata) == content


def test_a_way_to_split_text_that_has_no_name_is_refused() -> None:
    content = tokenizer_content() | {"pre_tokenizer": {"type": "Whitespace"}}
    with pytest.raises(ModelRefused, match="no GGUF has a name for"):
        tokenizer_json.take_apart(content, 267)


@pytest.mark.parametrize("kind", ["LlamaConfig", "Qwen2Config"])
def test_in_float16_the_file_is_the_model(kind: str, tmp_path: Path) -> None:
    """Rotated, biased and tied as it was: the losses are those of the folder it was made of."""
    pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    from reference_models import save_reference

    folder, direct, through = (tmp_path / name for name in ("hf", "direct", "through"))
    save_reference(folder, kind, {"tie_word_embeddings": kind == "LlamaConfig"}, "float16")
    direct.mkdir()
    through.mkdir()
    convert(folder, direct, silent)
    write_gguf(folder, direct, tmp_path / "model.gguf", Form.FP16, symmetric=False)
    convert(tmp_path / "model.gguf", through, silent)
    text = np.random.default_rng(3).integers(3, 267, 60)
    losses = [Foreseer(made, EXACT).losses(text) for made in (direct, through)]
    np.testing.assert_allclose(*losses, atol=1e-4)
