"""A GGUF of the Llama family: its hyperparameters, and its weights under Hugging Face's names."""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.models.convert.gguf_file import GgufFile, GgufTensor
from pileus.models.convert.llama_graph import LlamaShape
from pileus.models.convert.quantised import KINDS, unpack
from pileus.models.convert.weights import Dense, Matrix

ARCHITECTURES = ("llama", "qwen2", "qwen3")

_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_FLOATS = {"F32": (np.float32, ov.Type.f32), "F16": (np.float16, ov.Type.f16), "BF16": (np.uint16, ov.Type.bf16)}


def read_shape(file: GgufFile) -> LlamaShape:
    """Raises `ModelRefused` for another architecture, or for one of its variants that the graph does not have."""
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelRefused(f"its architecture {architecture!r} is not supported ({', '.join(ARCHITECTURES)} are)")
    if "blk.0.ffn_gate_inp.weight" in file.tensors:
        raise ModelRefused("it is a mixture of experts, which is not supported")

    def key(name: str) -> Any:
        try:
            return metadata[f"{architecture}.{name}"]
        except KeyError:
            raise ModelRefused(f"its metadata lacks {architecture}.{name}") from None

    heads = key("attention.head_count")
    head_size = metadata.get(f"{architecture}.attention.key_length", key("embedding_length") // heads)
    return LlamaShape(
        layers=key("block_count"),
        heads=heads,
        kv_heads=metadata.get(f"{architecture}.attention.head_count_kv", heads),
        head_size=head_size,
        norm_epsilon=key("attention.layer_norm_rms_epsilon"),
        inverse_frequencies=_inverse_frequencies(file, architecture, head_size),
    )


def _inverse_frequencies(file: GgufFile, architecture: str, head_size: int) -> NDArray[np.float32]:
    metadata = file.metadata
    turned = metadata.get(f"{architecture}.rope.dimension_count", head_size)
    if turned != head_size:
        raise ModelRefused(f"it rotates {turned} of {head_size} dimensions; all of them is what is supported")
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise ModelRefused(f"its rope scaling {scaling!r} is not supported")
    factor = metadata.get(f"{architecture}.rope.scaling.factor", 1.0) if scaling == "linear" else 1.0
    base = metadata.get(f"{architecture}.rope.freq_base", 10_000.0)
    frequencies: NDArray[np.float64] = 1.0 / (factor * base ** (np.arange(0, head_size, 2) / head_size))
    if (divisors := file.tensors.get("rope_freqs.weight")) is not None:  # Llama 3.1's scaling
        frequencies = frequencies / _floats(divisors)
    return frequencies.astype(np.float32)


class GgufWeights:
    """Finds a tensor by its Hugging Face name, and undoes what the GGUF's writer did to it."""

    def __init__(self, file: GgufFile, shape: LlamaShape) -> None:
        self._tensors = file.tensors
        self._shape = shape
        self._interleaved = file.metadata["general.architecture"] == "llama"

    def has(self, name: str) -> bool:
        return _gguf_name(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that is there."""
        return self._tensors[_gguf_name(name)].shape

    def matrix(self, name: str) -> Matrix:
        tensor = self._tensor(name, dimensions=2)
        if tensor.type in KINDS:
            matrix: Matrix = unpack(tensor)
        else:
            kind, element = _FLOATS[tensor.type]
            matrix = Dense(tensor.data.view(kind).reshape(tensor.shape), element)
        order = self._row_order(name)
        return matrix if order is None else matrix.rows(order)

    def vector(self, name: str) -> NDArray[np.float32]:
        values = _floats(self._tensor(name, dimensions=1))
        order = self._row_order(name)
        return values if order is None else values[order]

    def _tensor(self, name: str, dimensions: int) -> GgufTensor:
        tensor = self._tensors.get(_gguf_name(name))
        if tensor is None:
            raise ModelRefused(f"its tensor {_gguf_name(name)} is missing")
        if len(tensor.shape) != dimensions:
            raise ModelRefused(f"its tensor {tensor.name} has a wrong shape {tensor.shape}")
        return tensor

    def _row_order(self, name: str) -> NDArray[np.intp] | None:
        """A GGUF of a Llama has each head's query and key rows paired up for llama.cpp's way to rotate (x0 with x1);
        Hugging Face's pairs the first half with the second."""
        count = {"q_proj": self._shape.heads, "k_proj": self._shape.kv_heads}.get(name.split(".")[-2])
        if not self._interleaved or count is None:
            return None
        rows = np.arange(count * self._shape.head_size)
        return rows.reshape(count, self._shape.head_size // 2, 2).swapaxes(1, 2).reshape(-1)


def _gguf_name(name: str) -> str:
    path, _, kind = name.rpartition(".")
    if path in _TOP:
        return f"{_TOP[path]}.{kind}"
    layer, _, part = path.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{_IN_LAYER[part]}.{kind}"


def _floats(tensor: GgufTensor) -> NDArray[np.float32]:
    if tensor.type not in _FLOATS:
        raise ModelRefused(f"its tensor {tensor.name} should be of a float type, not {tensor.type}")
    if tensor.type == "BF16":
        return (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return tensor.data.view(_FLOATS[tensor.type][0]).astype(np.float32)
