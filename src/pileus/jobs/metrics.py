"""Figures that a job tells as it goes on (losses, rates), step by step: lines of JSON in its folder."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import time
from typing import Final

import msgspec
from msgspec import Struct

METRICS_FILE: Final = "metrics.jsonl"


class MetricPoint(Struct, frozen=True):
    """What was measured at a step. A step that is told again (after a resume) replaces what was told before, and what
    came after it."""

    step: int
    at: float  # wall clock
    values: dict[str, float]


_decode: Final = msgspec.json.Decoder(MetricPoint).decode


class MetricsWriter:
    """Appends to one file; a line is whole or absent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Figures that are not finite are left out: JSON has none."""
        finite = {name: float(value) for name, value in values.items() if abs(value) < float("inf")}
        line = msgspec.json.encode(MetricPoint(step, time(), finite)) + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def read_points(path: Path, most: int) -> list[MetricPoint]:
    """In the order of steps, thinned out evenly to at most so many; the last one is always among them."""
    if not path.is_file():
        return []
    with path.open("rb") as lines:
        points = _latest(lines)
    stride = -(-len(points) // most) if points else 1
    return points[(len(points) - 1) % stride :: stride]


def _latest(lines: Iterable[bytes]) -> list[MetricPoint]:
    kept: list[MetricPoint] = []
    for line in lines:
        if not line.endswith(b"\n"):
            break  # is being written
        point = _decode(line)
        while kept and kept[-1].step >= point.step:
            kept.pop()
        kept.append(point)
    return kept
