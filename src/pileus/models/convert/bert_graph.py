"""BERT as an OpenVINO graph: learned positions, full attention, a norm after each sum.

    input_ids, attention_mask, token_type_ids (batch, length) -> last_hidden_state (batch, length, hidden)
                                                                 logits (batch, labels), where there is a classifier

The hidden states on the way are outputs too, if somebody takes them: they carry the tensor names `hidden.0` (after the
embeddings) to `hidden.N`. Reference: transformers `models/bert/modeling_bert.py`.
"""

import numpy as np
import openvino as ov
import openvino.opset13 as op
from msgspec import Struct

from pileus.core.errors import ModelRefused
from pileus.models.convert.weights import Weights, to_node
from pileus.models.progress import Progress

_NO_ATTENTION = np.finfo(np.float32).min
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


class BertShape(Struct, frozen=True, kw_only=True):
    """The hyperparameters of one model."""

    layers: int
    heads: int
    hidden_size: int
    norm_epsilon: float
    activation: str  # one of ACTIVATIONS
    classifier: bool  # a pooler and a classifier over the first token
    prefix: str  # of the encoder's weights: "bert." under a head


def build(shape: BertShape, weights: Weights, progress: Progress) -> ov.Model:
    """Raises `ModelRefused` where a weight is missing, or the weights do not fit together."""
    try:
        return _Builder(shape, weights).build(progress)
    except RuntimeError as error:  # OpenVINO checks the shapes of each operation
        raise ModelRefused(f"its weights do not fit together: {str(error).strip().splitlines()[-1]}") from error


class _Builder:
    def __init__(self, shape: BertShape, weights: Weights) -> None:
        self._shape = shape
        self._weights = weights
        self._ids = _input("input_ids")
        self._attended = _input("attention_mask")
        self._types = _input("token_type_ids")
        self._mask = self._attention_mask()

    def build(self, progress: Progress) -> ov.Model:
        shape = self._shape
        hidden = self._embeddings()
        for layer in range(shape.layers):
            progress("converting", layer, shape.layers)
            hidden.output(0).set_names({f"hidden.{layer}"})
            hidden = self._layer(f"{shape.prefix}encoder.layer.{layer}", hidden)
        hidden.output(0).set_names({f"hidden.{shape.layers}", "last_hidden_state"})
        results = [_result("last_hidden_state", hidden)]
        if shape.classifier:
            logits = self._logits(hidden)
            logits.output(0).set_names({"logits"})
            results.append(_result("logits", logits))
        return ov.Model(results, [self._ids, self._attended, self._types], "bert")

    def _embeddings(self) -> ov.Node:
        name = f"{self._shape.prefix}embeddings"
        length = op.gather(op.shape_of(self._ids), op.constant(1), op.constant(0))
        positions = op.unsqueeze(op.range(op.constant(0), length, op.constant(1), "i64"), op.constant(0))
        words = self._table(f"{name}.word_embeddings", self._ids)
        types = self._table(f"{name}.token_type_embeddings", self._types)
        places = self._table(f"{name}.position_embeddings", positions)
        return self._norm(f"{name}.LayerNorm", op.add(op.add(words, types), places))

    def _layer(self, name: str, hidden: ov.Node) -> ov.Node:
        attended = self._linear(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", hidden))
        hidden = self._norm(f"{name}.attention.output.LayerNorm", op.add(attended, hidden))
        inner = self._activate(self._linear(f"{name}.intermediate.dense", hidden))
        return self._norm(f"{name}.output.LayerNorm", op.add(self._linear(f"{name}.output.dense", inner), hidden))

    def _attention(self, name: str, hidden: ov.Node) -> ov.Node:
        query, key, value = (self._heads(f"{name}.{kind}", hidden) for kind in ("query", "key", "value"))
        attended = op.scaled_dot_product_attention(query, key, value, self._mask, causal=False)
        joined = op.constant([0, 0, self._shape.hidden_size])
        return op.reshape(op.transpose(attended, op.constant([0, 2, 1, 3])), joined, special_zero=True)

    def _heads(self, name: str, hidden: ov.Node) -> ov.Node:
        """One of the projections, (batch, heads, length, head)."""
        shape = self._shape
        split = op.constant([0, 0, shape.heads, shape.hidden_size // shape.heads])
        return op.transpose(op.reshape(self._linear(name, hidden), split, special_zero=True), op.constant([0, 2, 1, 3]))

    def _attention_mask(self) -> ov.Node:
        """0 where a token may be looked at, very low elsewhere: (batch, 1, 1, length)."""
        present = op.not_equal(op.unsqueeze(self._attended, op.constant([1, 2])), op.constant(np.int64(0)))
        return op.select(present, op.constant(np.float32(0)), op.constant(_NO_ATTENTION))

    def _logits(self, hidden: ov.Node) -> ov.Node:
        first = op.gather(hidden, op.constant(0), op.constant(1))
        pooled = op.tanh(self._linear(f"{self._shape.prefix}pooler.dense", first))
        return self._linear("classifier", pooled)

    def _activate(self, hidden: ov.Node) -> ov.Node:
        if self._shape.activation == "relu":
            return op.relu(hidden)
        return op.gelu(hidden, "erf" if self._shape.activation == "gelu" else "tanh")

    def _table(self, name: str, index: ov.Node) -> ov.Node:
        table = to_node(self._weights.matrix(f"{name}.weight"))
        return op.gather(table, op.convert(index, "i32"), op.constant(0, np.int32))

    def _norm(self, name: str, hidden: ov.Node) -> ov.Node:
        """Layer norm, times the weight, plus the bias."""
        normed = op.mvn(hidden, op.constant([-1]), True, self._shape.norm_epsilon, "inside_sqrt")
        scaled = op.multiply(normed, op.constant(self._weights.vector(f"{name}.weight").reshape(1, 1, -1)))
        return op.add(scaled, op.constant(self._weights.vector(f"{name}.bias").reshape(1, 1, -1)))

    def _linear(self, name: str, hidden: ov.Node) -> ov.Node:
        matrix = to_node(self._weights.matrix(f"{name}.weight"))
        product = op.matmul(hidden, matrix, transpose_a=False, transpose_b=True)
        return op.add(product, op.constant(self._weights.vector(f"{name}.bias")))


def _input(name: str) -> ov.Node:
    node = op.parameter(ov.PartialShape([-1, -1]), ov.Type.i64)
    node.set_friendly_name(name)
    node.output(0).set_names({name})
    return node


def _result(name: str, node: ov.Node) -> ov.Node:
    result = op.result(node)
    result.set_friendly_name(name)
    return result
