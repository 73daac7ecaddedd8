"""Read a GGUF: its metadata, and its tensors as raw blocks of the memory-mapped file.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The file may be hostile, so every count and offset
is checked against the file's size before it is used.
"""

import mmap
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused

# metadata value types: struct format of the scalars; 8 is a string, 9 an array
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4


class BlockType(Struct, frozen=True):
    """How a tensor's weights lie in the file: so many weights in so many bytes."""

    name: str
    weights: int
    size_bytes: int


BLOCK_TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    30: BlockType("BF16", 1, 2),
}


class GgufTensor(Struct, frozen=True):
    """One tensor; `shape` in NumPy's order (rows first), `data` its bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


class GgufFile(Struct, frozen=True):
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """Raises `ModelRefused` where the file is not a well-formed GGUF."""
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise ModelRefused("it is too short for a GGUF")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _Reader(mapped).read()
    except (struct.error, UnicodeDecodeError) as error:
        raise ModelRefused(f"it is not a well-formed GGUF ({error})") from error


class _Reader:
    def __init__(self, mapped: mmap.mmap) -> None:
        self._bytes = mapped
        self._at = 0

    def read(self) -> GgufFile:
        magic, version, tensor_count, key_count = self._unpack("<4sIQQ")
        if magic != b"GGUF":
            raise ModelRefused("it is not a GGUF file")
        if version not in (2, 3):
            raise ModelRefused(f"GGUF version {version} is not supported (2 and 3 are)")
        self._check_count(tensor_count, 24)
        self._check_count(key_count, 12)
        metadata = dict(self._key_value() for _ in range(key_count))
        entries = [self._tensor_entry() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ModelRefused(f"the alignment {alignment!r} is not valid")
        start = -(-self._at // alignment) * alignment
        tensors = [self._tensor(start, *entry) for entry in entries]
        return GgufFile(metadata, {tensor.name: tensor for tensor in tensors})

    def _unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return values

    def _check_count(self, count: int, least_bytes: int) -> None:
        if count * least_bytes > len(self._bytes) - self._at:
            raise ModelRefused("a count or length points past the end of the file")

    def _string(self) -> str:
        (length,) = self._unpack("<Q")
        self._check_count(length, 1)
        start, self._at = self._at, self._at + length
        return self._bytes[start : self._at].decode()

    def _key_value(self) -> tuple[str, Any]:
        key = self._string()
        (kind,) = self._unpack("<I")
        return key, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        return self._unpack(_scalar(kind))[0]

    def _array(self) -> list[Any]:
        kind, count = self._unpack("<IQ")
        if kind == _STRING:
            self._check_count(count, 8)
            return [self._string() for _ in range(count)]
        form = _scalar(kind)
        self._check_count(count, struct.calcsize(form))
        return list(self._unpack(f"<{count}{form[1]}"))

    def _tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._unpack("<I")
        if dimensions > _MAX_DIMENSIONS:
            raise ModelRefused(f"tensor {name} has {dimensions} dimensions")
        shape = self._unpack(f"<{dimensions}Q")
        kind, offset = self._unpack("<IQ")
        return name, tuple(reversed(shape)), kind, offset

    def _tensor(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
        block = BLOCK_TYPES.get(kind)
        if block is None:
            raise ModelRefused(f"tensor {name} has a type that is not supported (ggml type {kind})")
        if not shape or shape[-1] % block.weights:
            raise ModelRefused(f"tensor {name} of shape {shape} does not consist of whole {block.name} blocks")
        size_bytes = prod(shape) // block.weights * block.size_bytes
        if start + offset + size_bytes > len(self._bytes):
            raise ModelRefused(f"tensor {name} points past the end of the file: it is cut short or forged")
        data = np.frombuffer(self._bytes, np.uint8, size_bytes, start + offset)
        return GgufTensor(name, block.name, shape, data)


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ModelRefused(f"metadata has a value of unknown type {kind}")
    return _SCALARS[kind]
