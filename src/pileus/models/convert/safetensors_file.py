"""Read safetensors: a JSON header, then the tensors' bytes. Format: https://github.com/huggingface/safetensors

Every offset is checked against the file's size before it is used.
"""

import json
import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused

_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}  # the last of positions, which are no weights
_MAX_HEADER_BYTES = 100_000_000


class SafeTensor(Struct, frozen=True):
    type: str  # F32, F16, BF16 or I64
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


def read_safetensors(path: Path) -> dict[str, SafeTensor]:
    """All tensors of the file. Raises `ModelRefused` where it is malformed."""
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or length > min(size_bytes - 8, _MAX_HEADER_BYTES):
            raise ModelRefused(f"{path.name} is not a safetensors file, or it is cut short")
        header = _header(path, file.read(length))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = np.frombuffer(mapped, np.uint8)[8 + length :]
    return {name: _tensor(path, name, entry, content) for name, entry in header.items() if name != "__metadata__"}


def _header(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except ValueError as error:
        raise ModelRefused(f"{path.name} has a malformed header") from error
    if not isinstance(header, dict):
        raise ModelRefused(f"{path.name} has a malformed header")
    return header


def _tensor(path: Path, name: str, entry: Any, content: NDArray[np.uint8]) -> SafeTensor:
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRefused(f"{path.name} describes tensor {name} wrongly") from error
    if kind not in _WIDTHS:
        raise ModelRefused(f"tensor {name} is of type {kind}, which is not supported ({', '.join(_WIDTHS)} are)")
    if not 0 <= start <= end <= len(content):
        raise ModelRefused(f"tensor {name} points past the end of {path.name}: it is cut short or forged")
    if min(shape, default=1) < 0 or prod(shape) * _WIDTHS[kind] != end - start:
        raise ModelRefused(f"tensor {name} of {path.name} has another size than its shape says")
    return SafeTensor(kind, shape, content[start:end])
