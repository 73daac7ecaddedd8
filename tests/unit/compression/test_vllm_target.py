"""What llm-compressor makes, where it is installed, as Transformers reads it."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
pytest.importorskip("llmcompressor", reason="llm-compressor is not installed: `pip install --pre llmcompressor`")

import torch
from transformers import AutoModelForCausalLM

from pileus.compression.spec import Form, Weights
from pileus.compression.vllm_target import write_vllm
from reference_models import save_reference

IDS = [[int(token) for token in row] for row in np.random.default_rng(0).integers(3, 267, (8, 32))]
SYMMETRIC = Weights(group=32, symmetric=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("form", "weights", "off"),
    [
        (Form.INT8, Weights(), 0.1),
        (Form.FULL_INT8, Weights(), 0.2),
        (Form.INT4, SYMMETRIC, 0.8),
        (Form.INT4, Weights(group=32, symmetric=True, tuned=("gptq",)), 0.8),
    ],
)
def test_transformers_reads_it(form: Form, weights: Weights, off: float, tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    shape = {"tie_word_embeddings": True, "hidden_size": 128, "intermediate_size": 256}
    reference = save_reference(source, "LlamaConfig", shape)
    made.mkdir()
    write_vllm(source, source, made, form, weights, IDS)
    assert (
        json.loads((made / "config.json").read_bytes())["quantization_config"]["quant_method"] == "compressed-tensors"
    )
    again = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    with torch.no_grad():
        wanted, given = (model(torch.tensor(IDS[:2])).logits for model in (reference, again))
    assert (given - wanted).norm() < off * wanted.norm()
