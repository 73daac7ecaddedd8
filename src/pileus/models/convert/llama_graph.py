"""The Llama family as an OpenVINO graph: RMS norm, rotary positions, grouped-query attention, gated MLP.

    input_ids, attention_mask, position_ids (batch, length), beam_idx (batch) -> logits (batch, length, vocabulary)

Keys and values are the graph's state. The shape of each subgraph follows what optimum-intel and OpenVINO GenAI write,
since the runtime recognises it: so attention can become paged attention, and rotary positions and decompression fuse.
Reference: transformers `models/llama/modeling_llama.py`.
"""

import numpy as np
import openvino as ov
import openvino.opset13 as op
from msgspec import Struct
from numpy.typing import NDArray
from openvino.op.util import Variable, VariableInfo

from pileus.core.errors import ModelRefused
from pileus.models.convert.weights import Weights, to_node
from pileus.models.progress import Progress

_NO_ATTENTION = -65504.0  # the least float16


class LlamaShape(Struct, frozen=True, kw_only=True):
    """The hyperparameters of one model."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    norm_epsilon: float
    inverse_frequencies: NDArray[np.float32]  # of the rotary positions, (head_size / 2)


def build(shape: LlamaShape, weights: Weights, progress: Progress) -> ov.Model:
    """Raises `ModelRefused` where a weight is missing, or the weights do not fit together."""
    try:
        return _Builder(shape, weights).build(progress)
    except RuntimeError as error:  # OpenVINO checks the shapes of each operation
        raise ModelRefused(f"its weights do not fit together: {str(error).strip().splitlines()[-1]}") from error


class _Builder:
    def __init__(self, shape: LlamaShape, weights: Weights) -> None:
        self._shape = shape
        self._weights = weights
        self._ids = _input("input_ids", ov.Type.i64, 2)
        self._attended = _input("attention_mask", ov.Type.i64, 2)
        self._positions = _input("position_ids", ov.Type.i64, 2)
        self._beams = _input("beam_idx", ov.Type.i32, 1)
        self._batch = op.gather(op.shape_of(self._ids), op.constant([0]), op.constant(0))
        self._cos, self._sin = self._rotation()
        self._mask = self._attention_mask()
        self._sinks: list[ov.Node] = []

    def build(self, progress: Progress) -> ov.Model:
        embedding = to_node(self._weights.matrix("model.embed_tokens.weight"))
        hidden = op.gather(embedding, op.convert(self._ids, "i32"), op.constant(0, np.int32))
        for layer in range(self._shape.layers):
            progress("converting", layer, self._shape.layers)
            hidden = self._layer(f"model.layers.{layer}", layer, hidden)
        hidden = self._norm("model.norm.weight", hidden)
        separate = self._weights.has("lm_head.weight")
        head = to_node(self._weights.matrix("lm_head.weight")) if separate else embedding
        logits = op.matmul(hidden, head, transpose_a=False, transpose_b=True)
        logits.output(0).set_names({"logits"})
        inputs = [self._ids, self._attended, self._positions, self._beams]
        result = op.result(logits)
        result.set_friendly_name("logits")
        return ov.Model([result], self._sinks, inputs, "llama")

    def _layer(self, name: str, layer: int, hidden: ov.Node) -> ov.Node:
        attended = self._attention(f"{name}.self_attn", layer, self._norm(f"{name}.input_layernorm.weight", hidden))
        hidden = op.add(hidden, attended)
        normed = self._norm(f"{name}.post_attention_layernorm.weight", hidden)
        gate = op.swish(self._linear(f"{name}.mlp.gate_proj", normed))
        gated = op.multiply(gate, self._linear(f"{name}.mlp.up_proj", normed))
        return op.add(hidden, self._linear(f"{name}.mlp.down_proj", gated))

    def _attention(self, name: str, layer: int, hidden: ov.Node) -> ov.Node:
        shape = self._shape
        query = self._rotate(self._normed_heads(name, "q", shape.heads, hidden))
        key = self._rotate(self._normed_heads(name, "k", shape.kv_heads, hidden))
        value = self._swap(self._heads(name, "v", shape.kv_heads, hidden))
        keys = self._repeat(self._remember(f"past_key_values.{layer}.keypresent.{layer}.key", key))
        values = self._repeat(self._remember(f"past_key_values.{layer}.valuepresent.{layer}.key", value))
        attended = op.scaled_dot_product_attention(query, keys, values, self._mask, causal=False)
        joined = op.reshape(self._swap(attended), op.constant([0, 0, shape.heads * shape.head_size]), special_zero=True)
        return self._linear(f"{name}.o_proj", joined)

    def _heads(self, name: str, kind: str, count: int, hidden: ov.Node) -> ov.Node:
        """One of the projections, (batch, length, heads, head)."""
        split = op.constant([0, 0, count, self._shape.head_size])
        return op.reshape(self._linear(f"{name}.{kind}_proj", hidden), split, special_zero=True)

    def _normed_heads(self, name: str, kind: str, count: int, hidden: ov.Node) -> ov.Node:
        """Query or key, (batch, heads, length, head); some models (Qwen3) normalise each head."""
        projected = self._heads(name, kind, count, hidden)
        norm = f"{name}.{kind}_norm.weight"
        return self._swap(self._norm(norm, projected) if self._weights.has(norm) else projected)

    @staticmethod
    def _swap(heads: ov.Node) -> ov.Node:
        """Swap the length and the heads."""
        return op.transpose(heads, op.constant([0, 2, 1, 3]))

    def _remember(self, variable: str, new: ov.Node) -> ov.Node:
        """What earlier calls left, and the new after it; the whole is left for the next call."""
        shape = self._shape
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, shape.kv_heads, -1, shape.head_size])
        info.data_type = ov.Type.f32
        info.variable_id = variable
        state = Variable(info)
        empty_shape = op.concat([self._batch, op.constant([shape.kv_heads, 0, shape.head_size])], axis=0)
        past = op.read_value(op.broadcast(op.constant(np.float32(0)), empty_shape), state)
        whole = op.concat([op.gather(past, self._beams, op.constant(0)), new], axis=2)
        self._sinks.append(op.assign(whole, state))
        return whole

    def _repeat(self, heads: ov.Node) -> ov.Node:
        """Each key-value head once for each query head of its group."""
        shape = self._shape
        group = shape.heads // shape.kv_heads
        if group == 1:
            return heads
        target = op.concat([self._batch, op.constant([shape.kv_heads, group, 1, shape.head_size])], axis=0)
        repeated = op.broadcast(op.unsqueeze(heads, op.constant(2)), target, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(repeated, op.constant([0, shape.heads, -1, shape.head_size]), special_zero=True)

    def _rotation(self) -> tuple[ov.Node, ov.Node]:
        """Cosine and sine of each position's angles, (batch, 1, length, head)."""
        frequencies = op.constant(self._shape.inverse_frequencies.reshape(1, -1, 1))
        per_batch = op.broadcast(
            frequencies, op.concat([self._batch, op.constant([1, 1])], axis=0), broadcast_spec="BIDIRECTIONAL"
        )
        positions = op.convert(op.unsqueeze(self._positions, op.constant(1)), "f32")
        angles = op.transpose(op.matmul(per_batch, positions, False, False), op.constant([0, 2, 1]))
        both = op.concat([angles, angles], axis=-1)
        return op.unsqueeze(op.cos(both), op.constant(1)), op.unsqueeze(op.sin(both), op.constant(1))

    def _rotate(self, heads: ov.Node) -> ov.Node:
        half = self._shape.head_size // 2
        upper = op.slice(heads, _vector(half), _vector(2**63 - 1), _vector(1), _vector(3))
        lower = op.slice(heads, _vector(0), _vector(half), _vector(1), _vector(3))
        turned = op.concat([op.multiply(upper, op.constant(np.full((1, 1, 1, 1), -1, np.float32))), lower], axis=-1)
        return op.add(op.multiply(heads, self._cos), op.multiply(turned, self._sin))

    def _attention_mask(self) -> ov.Node:
        """0 where a query may look, very low elsewhere: (batch, 1, length, past + length)."""
        total = op.gather(op.shape_of(self._attended), op.constant(1), op.constant(0))
        length = op.gather(op.shape_of(self._ids), op.constant(1), op.constant(0))
        keys = op.range(op.constant(0), total, op.constant(1), "i64")
        queries = op.range(op.subtract(total, length), total, op.constant(1), "i64")
        causal = op.less_equal(keys, op.unsqueeze(queries, op.constant(1)))
        present = op.not_equal(op.unsqueeze(self._attended, op.constant([1, 2])), op.constant(0))
        visible = op.logical_and(op.unsqueeze(causal, op.constant([0, 1])), present)
        return op.select(visible, op.constant(np.float32(0)), op.constant(np.float32(_NO_ATTENTION)))

    def _norm(self, name: str, hidden: ov.Node) -> ov.Node:
        """Root mean square norm, times the weight."""
        weight = self._weights.vector(name)
        one = op.constant(np.ones((1, 1, 1), np.float32))
        square = op.power(hidden, op.constant(np.full((1, 1, 1), 2, np.float32)))
        mean = op.reduce_mean(square, op.constant([-1], np.int32), keep_dims=True)
        epsilon = op.constant(np.full((1, 1, 1), self._shape.norm_epsilon, np.float32))
        normed = op.multiply(op.divide(one, op.sqrt(op.add(mean, epsilon))), hidden)
        return op.multiply(normed, op.constant(weight.reshape(1, 1, -1)))

    def _linear(self, name: str, hidden: ov.Node) -> ov.Node:
        matrix = self._weights.matrix(f"{name}.weight")
        product = op.matmul(hidden, to_node(matrix), transpose_a=False, transpose_b=True)
        if not self._weights.has(f"{name}.bias"):
            return product
        return op.add(product, op.constant(self._weights.vector(f"{name}.bias").reshape(1, 1, -1)))


def _input(name: str, kind: ov.Type, dimensions: int) -> ov.Node:
    node = op.parameter(ov.PartialShape([-1] * dimensions), kind)
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _vector(value: int) -> ov.Node:
    return op.constant([value])
