"""GGUF's weight blocks as OpenVINO takes compressed weights: unsigned integers, a zero point and a scale per group.

    weight = (q - zero) * scale        q and zero of 4 or 8 bits, scale in float16, groups along a row

Symmetric blocks (Q4_0, Q5_0, Q6_K, Q8_0) are carried over exactly. Blocks with a minimum (Q4_1, Q4_K, Q5_1, Q5_K)
have `weight = q * d + m`, and the CPU's kernels take integer zero points only. Rounding -m/d in 4 bits, as OpenVINO
GenAI does, costs much (SmolLM2 in Q4_1: perplexity +17%, 30% of the likeliest tokens differ). So their steps are
spread over 8 bits, where the rounding is a 16th or less of what it was and the model says what it said before.

Block layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.models.convert.gguf_file import GgufTensor

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
# NumPy's types are wider than what it computes here; `unpack` sets them right.
Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


class Packed(Struct, frozen=True):
    """A matrix of compressed weights: `q` is (rows, groups, group), `zero` and `scale` are (rows, groups, 1)."""

    q: U8
    zero: U8
    scale: NDArray[np.float16]
    bits: int

    def rows(self, order: NDArray[np.intp]) -> "Packed":
        return Packed(self.q[order], self.zero[order], self.scale[order], self.bits)

    def dense(self) -> F32:
        """The weights themselves, (rows, columns)."""
        values = (self.q.astype(np.float32) - self.zero) * self.scale.astype(np.float32)
        return values.reshape(len(values), -1)


def unpack(tensor: GgufTensor) -> Packed:
    """The matrix of a tensor whose type is in `KINDS`."""
    kind = KINDS[tensor.type]
    blocks = tensor.data.reshape(-1, kind.block_bytes)
    q, zero, scale = kind.decode(blocks)
    rows = tensor.shape[0]
    return Packed(
        q.reshape(rows, -1, kind.group).astype(np.uint8, copy=False),
        zero.reshape(rows, -1, 1).astype(np.uint8, copy=False),
        scale.reshape(rows, -1, 1).astype(np.float16),
        kind.bits,
    )


_TOP = 255  # the largest value in 8 bits
_Decoded = tuple[Ints, Ints, Floats]


def _q4_0(blocks: U8) -> _Decoded:
    return _nibbles(blocks[:, 2:]), _constant(blocks, 8), _half(blocks, 0)


def _q4_1(blocks: U8) -> _Decoded:
    return _with_minimum(_nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2), spread=16)


def _q5_0(blocks: U8) -> _Decoded:
    q = np.bitwise_or(_nibbles(blocks[:, 6:]), _fifth_bits(blocks[:, 2:6]))
    return q, _constant(blocks, 16), _half(blocks, 0)


def _q5_1(blocks: U8) -> _Decoded:
    q = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _with_minimum(q, _half(blocks, 0), _half(blocks, 2), spread=7)


def _q8_0(blocks: U8) -> _Decoded:
    return blocks[:, 2:] ^ 0x80, _constant(blocks, 128), _half(blocks, 0)


def _q4_k(blocks: U8) -> _Decoded:
    scale, minimum = _k_scales(blocks)
    return _with_minimum(_k_nibbles(blocks[:, 16:]), scale, minimum, spread=16)


def _q5_k(blocks: U8) -> _Decoded:
    scale, minimum = _k_scales(blocks)
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    q = _k_nibbles(blocks[:, 48:]) | (fifth << 4).reshape(-1, 32)
    return _with_minimum(q, scale, minimum, spread=7)


def _q6_k(blocks: U8) -> _Decoded:
    low = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]
    q = (low & 15).reshape(-1, 2, 4, 32) | ((high & 3) << 4)
    scale = blocks[:, 192:208].view(np.int8).astype(np.float32) * _half(blocks, 208)
    return q.reshape(-1, 16), np.full(scale.size, 32, np.uint8), scale.reshape(-1)


def _half(blocks: U8, at: int) -> Floats:
    """The float16 at this byte of each block, as a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _constant(blocks: U8, value: int) -> Ints:
    return np.full(len(blocks), value, np.uint8)


def _nibbles(packed: U8) -> Ints:
    """16 bytes: the low halves come first, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _k_nibbles(packed: U8) -> Ints:
    """128 bytes: in each 32, the low halves are one group of weights and the high ones the next."""
    quarters = packed.reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8)[:, None]
    return (quarters & 15).reshape(-1, 32)


def _fifth_bits(packed: U8) -> Ints:
    return np.unpackbits(packed, axis=1, bitorder="little") << 4


def _k_scales(blocks: U8) -> tuple[Floats, Floats]:
    """Scale and minimum of the 8 groups of each 256 weights: 6 bits each, in 12 bytes."""
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1)
    minimum = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1)
    return (scale * _half(blocks, 0)).reshape(-1, 1), (-(minimum * _half(blocks, 2))).reshape(-1, 1)


def _with_minimum(q: Ints, scale: Floats, minimum: Floats, spread: int) -> _Decoded:
    """`q * scale + minimum` with a zero point in 8 bits; each step becomes `spread` smaller ones."""
    step = scale / spread
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = np.rint(-minimum / step)
    fits = ((zero >= 0) & (zero <= _TOP))[:, 0]
    result = q * np.uint8(spread)
    if not fits.all():  # all weights of the group on one side of zero: fit again, to a range that includes zero
        odd = ~fits
        result[odd], zero[odd], step[odd] = _fit(q[odd] * scale[odd] + minimum[odd])
    return result, zero.astype(np.uint8), step


def _fit(weights: Floats) -> _Decoded:
    low = np.minimum(weights.min(axis=1, keepdims=True), 0)
    high = np.maximum(weights.max(axis=1, keepdims=True), 0)
    step = np.maximum((high - low) / _TOP, np.float32(np.finfo(np.float16).smallest_subnormal))
    zero = np.rint(-low / step)
    return np.clip(np.rint(weights / step) + zero, 0, _TOP).astype(np.uint8), zero.astype(np.uint8), step


class Kind(Struct, frozen=True):
    block_bytes: int
    group: int  # weights that share a scale
    bits: int
    decode: Callable[[U8], _Decoded]


KINDS = {
    "Q4_0": Kind(18, 32, 4, _q4_0),
    "Q4_1": Kind(20, 32, 8, _q4_1),
    "Q5_0": Kind(22, 32, 8, _q5_0),
    "Q5_1": Kind(24, 32, 8, _q5_1),
    "Q8_0": Kind(34, 32, 8, _q8_0),
    "Q4_K": Kind(144, 32, 8, _q4_k),
    "Q5_K": Kind(176, 32, 8, _q5_k),
    "Q6_K": Kind(210, 16, 8, _q6_k),
}
