"""Weights as constants of an OpenVINO graph, stored as they came and converted to float32 where they are used."""

from typing import Protocol

import numpy as np
import openvino as ov
import openvino.opset13 as op
from msgspec import Struct
from numpy.typing import NDArray

from pileus.models.convert.quantised import Packed


class Dense(Struct, frozen=True):
    """Weights in a float type; `bits` are their bytes, since NumPy has no bfloat16."""

    values: NDArray[np.generic]
    type: ov.Type

    def rows(self, order: NDArray[np.intp]) -> "Dense":
        return Dense(self.values[order], self.type)


Matrix = Packed | Dense


class Weights(Protocol):
    """A model's weights under Hugging Face's names, e.g. `model.layers.0.self_attn.q_proj.weight`."""

    def matrix(self, name: str) -> Matrix:
        """(out, in). Raises `ModelRefused` where there is none."""
        ...

    def vector(self, name: str) -> NDArray[np.float32]: ...

    def has(self, name: str) -> bool: ...


def to_node(matrix: Matrix) -> ov.Node:
    """The matrix in float32. This chain of operations is the one that the CPU's kernels recognise and never unroll."""
    if isinstance(matrix, Dense):
        constant = _constant(matrix.values, matrix.values.shape, matrix.type)
        return constant if matrix.type == ov.Type.f32 else op.convert(constant, "f32")
    q = op.convert(_integers(matrix.q, matrix.bits), "f16")
    zero = op.convert(_integers(matrix.zero, matrix.bits), "f16")
    scaled = op.multiply(op.subtract(q, zero), op.constant(matrix.scale))
    rows, groups, group = matrix.q.shape
    return op.convert(op.reshape(scaled, op.constant([rows, groups * group]), special_zero=False), "f32")


def _integers(values: NDArray[np.uint8], bits: int) -> ov.Node:
    if bits == 8:
        return op.constant(values)
    flat = values.reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return _constant(flat[0::2] | flat[1::2] << 4, values.shape, ov.Type.u4)


def _constant(data: NDArray[np.generic], shape: tuple[int, ...], kind: ov.Type) -> ov.Node:
    """A constant of a type that NumPy does not have, from its bytes."""
    tensor = ov.Tensor(np.ascontiguousarray(data), ov.Shape(list(shape)), kind)
    return op.constant(tensor, shared_memory=False)  # the array is gone when this returns
