"""Sampling's first half: what is to be known of a row of logits before a token is drawn from it.

A graph of its own beside the model's, over the same memory: it takes the top k of each row and the normalisers, so that
Python need not read the vocabulary. Steps in which every answer is greedy do without: over a vocabulary of 49,152 it
was a tenth of a decode step of 32 sequences.

Shapes: R rows, V vocabulary, K = `TOP`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

TOP = 64


class Rows:
    """What one step says about the rows to sample. The arrays are views that the next step overwrites."""

    __slots__ = ("ids", "log_mass", "log_normaliser", "logits", "values")

    def __init__(
        self,
        logits: NDArray[np.float32],
        values: NDArray[np.float32],
        ids: NDArray[np.int32],
        log_normaliser: NDArray[np.float32],
        log_mass: NDArray[np.float32],
    ) -> None:
        self.logits = logits  # [R, V]
        self.values = values  # [R, K] logits, highest first
        self.ids = ids  # [R, K]
        self.log_normaliser = log_normaliser  # [R]
        self.log_mass = log_mass  # [R], see `_log_mass`


def most_likely(logits: ov.Tensor) -> Rows:
    """Rows of which nothing but the most likely token is known."""
    data: NDArray[np.float32] = logits.data
    ids = data.argmax(axis=1).astype(np.int32)[:, None]
    unknown = np.full(len(data), np.nan, np.float32)
    return Rows(data, np.take_along_axis(data, ids, axis=1), ids, unknown, unknown)


class Summary:
    """The graph over logits [R, V] of one vocabulary."""

    def __init__(self, core: ov.Core, vocabulary: int, threads: int) -> None:
        logits = ops.parameter([-1, vocabulary], np.float32)
        inverse = ops.parameter([-1], np.float32)
        outputs = _summaries(logits, inverse, min(TOP, vocabulary))
        model = ov.Model([ops.result(output) for output in outputs], [logits, inverse], "summary")
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = core.compile_model(model, "CPU", properties).create_infer_request()

    def of(self, logits: ov.Tensor, inverse_temperatures: Sequence[float]) -> Rows:
        """Everything that sampling and log probabilities need. `inverse_temperatures` [R]."""
        request = self._request
        request.set_input_tensor(0, logits)
        request.set_input_tensor(1, ov.Tensor(np.array(inverse_temperatures, np.float32)))
        request.infer()
        return Rows(logits.data, *(request.get_output_tensor(index).data for index in range(4)))


def _summaries(logits: Any, inverse: Any, top: int) -> list[Any]:
    axis = ops.constant(np.int64(1))
    best = ops.topk(logits, ops.constant(np.int32(top)), 1, "max", "value", index_element_type="i32")
    highest = ops.reduce_max(logits, axis, True)
    below = ops.subtract(logits, highest)
    return [
        best.output(0),
        best.output(1),
        ops.add(_log_mass(below, axis), ops.squeeze(highest, axis)).output(0),
        _log_mass(ops.multiply(below, ops.unsqueeze(inverse, axis)), axis).output(0),
    ]


def _log_mass(below: Any, axis: Any) -> Any:
    """The log of the sum of exp, of logits less the highest: small, and so exact also at low temperatures."""
    return ops.log(ops.reduce_sum(ops.exp(below), axis, False))
