"""A GGUF as the Hugging Face folder that training begins from: its weights as the engine has them, in float16.

No PyTorch: safetensors is a header and bytes.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.models.artefact import CHAT_TEMPLATE, TOKENIZER
from pileus.models.convert import generation, gguf_model, tokenizer_json
from pileus.models.convert.gguf_file import GgufFile, read_gguf
from pileus.models.convert.gguf_model import GgufWeights
from pileus.models.convert.llama_graph import LlamaShape
from pileus.models.convert.quantised import Packed
from pileus.models.progress import Progress

WEIGHTS: Final = "model.safetensors"

_CLASSES: Final = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_PARTS: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
_NAMES: Final = (
    "input_layernorm.weight",
    *(f"self_attn.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")),
    "self_attn.q_norm.weight",
    "self_attn.k_norm.weight",
    "post_attention_layernorm.weight",
    *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
)
_HEADER_ALIGNMENT: Final = 8


def write_folder(source: Path, folder: Path, progress: Progress) -> None:
    """Fill `folder` with config.json, tokenizer, chat template and weights. Raises `ModelRefused` with the reason."""
    file = read_gguf(source)
    shape = gguf_model.read_shape(file)
    _write_weights(folder / WEIGHTS, GgufWeights(file, shape), shape, progress)
    said = generation.from_gguf(file.metadata)
    config = _config(file, shape) | {"bos_token_id": said.bos_id, "eos_token_id": said.stop_ids[0]}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"eos_token_id": list(said.stop_ids), "bos_token_id": said.bos_id})
    _write_json(folder / TOKENIZER, tokenizer_json.build(file.metadata))
    tokens = {"bos_token": said.bos_token or None, "eos_token": said.eos_token or None}
    names = tokens | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": said.context_length}
    _write_json(folder / "tokenizer_config.json", names)
    if template := file.metadata.get("tokenizer.chat_template"):
        (folder / CHAT_TEMPLATE).write_text(template)


def _config(file: GgufFile, shape: LlamaShape) -> dict[str, Any]:
    """What Transformers must know of the model."""
    metadata = file.metadata
    architecture = metadata["general.architecture"]
    if "rope_freqs.weight" in file.tensors:
        raise ModelRefused("its rope is scaled as Llama 3.1's, whose parameters a GGUF does not say: use the original")
    base = metadata.get(f"{architecture}.rope.freq_base", 10_000.0)
    scaling = None
    if metadata.get(f"{architecture}.rope.scaling.type", "none") == "linear":
        scaling = {"rope_type": "linear", "factor": metadata[f"{architecture}.rope.scaling.factor"]}
    width, inner = metadata[f"{architecture}.embedding_length"], file.tensors["blk.0.ffn_up.weight"].shape[0]
    return {
        "architectures": [_CLASSES[architecture]],
        "model_type": architecture,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": metadata[f"{architecture}.context_length"],
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": base,
        "rope_scaling": scaling,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": architecture == "llama" and "blk.0.attn_q.bias" in file.tensors,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "torch_dtype": "float16",
    }


def _write_weights(path: Path, weights: GgufWeights, shape: LlamaShape, progress: Progress) -> None:
    names = [name for name in _names(shape) if weights.has(name)]
    sizes = {name: weights.shape(name) for name in names}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = at + 2 * math.prod(sizes[name])
        header[name] = {"dtype": "F16", "shape": list(sizes[name]), "data_offsets": [at, end]}  # type: ignore[dict-item]
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    with path.open("wb") as written:
        written.write(len(text).to_bytes(8, "little") + text)
        for done, name in enumerate(names):
            progress("dequantising", done, len(names))
            written.write(np.ascontiguousarray(_values(weights, name, len(sizes[name]))).data)


def _values(weights: GgufWeights, name: str, dimensions: int) -> NDArray[np.float16]:
    if dimensions == 1:
        return weights.vector(name).astype(np.float16)
    matrix = weights.matrix(name)
    if isinstance(matrix, Packed):
        return matrix.dense().astype(np.float16)
    if matrix.values.dtype == np.uint16:  # bfloat16's bits
        return (matrix.values.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
    return matrix.values.astype(np.float16)


def _names(shape: LlamaShape) -> Iterator[str]:
    yield "model.embed_tokens.weight"
    for layer in range(shape.layers):
        yield from (f"model.layers.{layer}.{name}" for name in _NAMES)
    yield from ("model.norm.weight", "lm_head.weight")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2))
