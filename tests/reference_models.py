"""Random models of a few kinds in Transformers, saved as Hugging Face folders and GGUF files, to hold ours against.

A test module that imports this is skipped where the `train` extra is not installed.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from made_models import add_tiny_vocabulary, tokenizer_content

WITHOUT = "the `train` extra is not installed: `make extras`"
torch = pytest.importorskip("torch", reason=WITHOUT)
transformers = pytest.importorskip("transformers", reason=WITHOUT)

_COMMON = {
    "vocab_size": 267,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}


def save_reference(folder: Path, kind: str, options: dict[str, Any], dtype: str = "float32") -> Any:
    """A random model of that kind, saved as a Hugging Face folder; returns it in float32."""
    torch.manual_seed(7)
    config = getattr(transformers, kind)(**(_COMMON | options))
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):  # else they are all zeros or all ones
                parameter.copy_(torch.randn_like(parameter) * 0.5 + (0 if name.endswith("bias") else 1))
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_content()))
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(reference: Any, ids: Any) -> Any:
    """Of every position of every row, as NumPy has them."""
    with torch.no_grad():
        return reference(torch.tensor(ids)).logits.numpy()


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
