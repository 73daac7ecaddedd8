"""A Hugging Face folder of the Llama family as a GGUF, quantised in llama.cpp's blocks of 32.

    fp16  F16        int8  Q8_0        int4  Q4_1, or Q4_0 where it is to be symmetric; embeddings and output in Q8_0

Block layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pileus.compression.spec import Form
from pileus.jobs.handler import JobFailed
from pileus.models.artefact import CHAT_TEMPLATE, TOKENIZER, Generation, read_generation
from pileus.models.convert.huggingface import FolderWeights, read_json
from pileus.models.convert.tokenizer_json import take_apart

GGUF_FILE: Final = "model.gguf"
_BLOCK: Final = 32
_ARCHITECTURES: Final = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]  # NumPy's types are wider than what it computes here


def write_gguf(weights: Path, artefact: Path, file: Path, form: Form, *, symmetric: bool) -> None:
    """`weights` is the Hugging Face folder, `artefact` has its tokenizer and template. Raises `JobFailed` for another
    architecture, `ModelRefused` for a tokenizer that a GGUF cannot carry."""
    import gguf

    config = read_json(weights / "config.json")
    name = config["architectures"][0]
    if name not in _ARCHITECTURES:
        raise JobFailed(f"a GGUF of {name} is not supported ({', '.join(_ARCHITECTURES)} are)", code="not_compressible")
    writer = gguf.GGUFWriter(file, _ARCHITECTURES[name])
    _add_shape(writer, config)
    generation = read_generation(artefact)
    _add_vocabulary(writer, read_json(artefact / TOKENIZER), config["vocab_size"], generation)
    if (template := artefact / CHAT_TEMPLATE).is_file():
        writer.add_chat_template(template.read_text())
    _add_tensors(writer, weights, config, form, symmetric=symmetric)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise JobFailed("a GGUF of stretched positions (rope scaling) is not supported", code="not_compressible")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_vocab_size(config["vocab_size"])


def _add_vocabulary(writer: Any, tokenizer: dict[str, Any], vocab_size: int, generation: Generation) -> None:
    metadata = take_apart(tokenizer, vocab_size)
    writer.add_tokenizer_model(metadata["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(metadata["tokenizer.ggml.pre"])
    writer.add_token_list(metadata["tokenizer.ggml.tokens"])
    writer.add_token_types(metadata["tokenizer.ggml.token_type"])
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_add_bos_token(metadata["tokenizer.ggml.add_bos_token"])
    if generation.stop_ids:
        writer.add_eos_token_id(generation.stop_ids[0])
    if generation.bos_id is not None:
        writer.add_bos_token_id(generation.bos_id)


def _add_tensors(writer: Any, weights: Path, config: dict[str, Any], form: Form, *, symmetric: bool) -> None:
    import gguf

    architecture = gguf.MODEL_ARCH[_ARCHITECTURES[config["architectures"][0]].upper()]
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"]}
    heads["k_proj"] = config.get("num_key_value_heads") or heads["q_proj"]
    folder = FolderWeights(weights)
    folder.settle_head(tied=bool(config.get("tie_word_embeddings", False)))
    for name in folder.names():
        values = folder.dense(name)
        if architecture == gguf.MODEL_ARCH.LLAMA and (count := heads.get(name.split(".")[-2])):
            values = _paired(values, count)
        kind = _kind(name, values, form, symmetric=symmetric)
        data = values.astype(np.float16) if kind == "F16" else values if kind == "F32" else QUANTISERS[kind](values)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=gguf.GGMLQuantizationType[kind])


def _kind(name: str, values: F32, form: Form, *, symmetric: bool) -> str:
    if values.ndim == 1:
        return "F32"
    if form == Form.FP16 or values.shape[1] % _BLOCK:
        return "F16"
    if form == Form.INT8 or name in ("model.embed_tokens.weight", "lm_head.weight"):
        return "Q8_0"
    return "Q4_0" if symmetric else "Q4_1"


def _paired(values: F32, heads: int) -> F32:
    """The rows of each head as llama.cpp rotates them: x0 with x1, where Hugging Face has the halves together."""
    shape = values.shape
    return np.ascontiguousarray(values.reshape(heads, 2, -1, *shape[1:]).swapaxes(1, 2).reshape(shape))


def _q8_0(values: F32) -> U8:
    blocks = values.reshape(-1, _BLOCK)
    scale = _half(np.abs(blocks).max(axis=1, keepdims=True) / 127)
    q = np.rint(blocks * _inverse(scale)).clip(-127, 127).astype(np.int8)
    return _joined(values, scale, q.view(np.uint8))


def _q4_0(values: F32) -> U8:
    """The weight that is farthest from nought becomes -8 exactly."""
    blocks = values.reshape(-1, _BLOCK)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    scale = _half(farthest / -8)
    return _joined(values, scale, _nibbles(np.rint(blocks * _inverse(scale)) + 8))


def _q4_1(values: F32) -> U8:
    blocks = values.reshape(-1, _BLOCK)
    least = _half(blocks.min(axis=1, keepdims=True))
    scale = _half((blocks.max(axis=1, keepdims=True) - least) / 15)
    return _joined(values, scale, least, _nibbles(np.rint((blocks - least) * _inverse(scale))))


QUANTISERS: Final = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1}


def _half(values: Floats) -> F32:
    """As they are stored, so that what is rounded after them makes up for it."""
    return values.astype(np.float16).astype(np.float32)


def _inverse(scale: F32) -> F32:
    """Nought where the scale is."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def _nibbles(q: F32) -> U8:
    """16 bytes: the first half of the block is in the low halves."""
    whole = q.clip(0, 15).astype(np.uint8)
    packed: U8 = np.bitwise_or(whole[:, : _BLOCK // 2], whole[:, _BLOCK // 2 :] << 4, dtype=np.uint8)
    return packed


def _joined(values: F32, *parts: NDArray[Any]) -> U8:
    """(rows, bytes): of each block its scale, its least where there is one, its integers."""
    columns = [part if part.dtype == np.uint8 else part.astype(np.float16).view(np.uint8) for part in parts]
    return np.concatenate(columns, axis=1).reshape(len(values), -1)
