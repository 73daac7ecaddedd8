"""Vectors and scores as engines give them: little-endian 32-bit floats."""

from array import array
from collections.abc import Iterable
from sys import byteorder

FLOAT_BYTES = 4


def floats(values: bytes) -> list[float]:
    """As numbers."""
    found = array("f", values)
    if byteorder == "big":
        found.byteswap()
    return found.tolist()


def packed(numbers: Iterable[float]) -> bytes:
    """As bytes."""
    made = array("f", numbers)
    if byteorder == "big":
        made.byteswap()
    return made.tobytes()
