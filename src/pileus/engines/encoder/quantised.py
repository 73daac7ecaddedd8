"""Weights as 8-bit integers: each row of a matrix by its largest value. The runtime then rounds activations too, in
groups as they come, and multiplies in integers."""

from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops

ACTIVATION_GROUP = 128  # values that share a scale; smaller is exacter, larger was not faster
_LARGEST = 127


def quantise(model: ov.Model) -> None:
    """Replace the float matrices that activations are multiplied with, in place."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and (matrix := _matrix(node)) is not None:
            scale = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _LARGEST
            integers = np.round(matrix / scale).astype(np.int8)
            made = ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scale.astype(np.float32)))
            node.input(1).replace_source_output(made.output(0))


def _matrix(node: Any) -> Any:
    """The weights (out, in) in float32, where a constant is all that is behind the second factor."""
    source = node.input_value(1).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or not node.get_attributes()["transpose_b"]:
        return None
    element = source.get_element_type()
    if element not in (ov.Type.f32, ov.Type.f16, ov.Type.bf16) or len(source.get_output_shape(0)) != 2:
        return None
    return source.get_data(dtype=np.float32)
