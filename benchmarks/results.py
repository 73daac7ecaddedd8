"""The record of a run: everything that the report says can be computed from it again."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.figures import Figures


class Machine(Struct, frozen=True):
    """Where it ran."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    instructions: tuple[str, ...]  # those that matter to matrix products


class Target(Struct, frozen=True):
    """What was measured: version, arithmetic and settings, in words."""

    name: str
    title: str
    version: str
    precision: str
    settings: str


class Measurement(Struct, frozen=True):
    """One run of one workload on one target. Rounds count from 1; within a round the targets take turns."""

    suite: str
    workload: str
    target: str
    round: int
    figures: Figures


class Missing(Struct, frozen=True):
    """A target, or one of its workloads, that gave no figure, and why."""

    target: str
    workload: str
    why: str


class Results(Struct):
    """One run of the benchmarks."""

    date: str
    command: str
    commit: str
    machine: Machine
    titles: dict[str, str] = {}  # workload -> what it is
    targets: list[Target] = []
    measurements: list[Measurement] = []
    missing: list[Missing] = []

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def load(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)


def join(parts: Sequence[Results]) -> Results:
    """Runs of different workloads on one machine as one record. Raises `ValueError` where they overlap or differ."""
    first = parts[0]
    workloads = [{(measurement.suite, measurement.workload) for measurement in part.measurements} for part in parts]
    if sum(map(len, workloads)) != len(set().union(*workloads)):
        raise ValueError("two runs measured the same workload: publish one of them")
    if any(part.machine != first.machine for part in parts):
        raise ValueError("the runs are from different machines")
    targets = {target.name: target for part in parts for target in part.targets}
    return Results(
        date="; ".join(dict.fromkeys(part.date for part in parts)),
        command="; ".join(dict.fromkeys(part.command for part in parts)),
        commit="; ".join(dict.fromkeys(part.commit for part in parts)),
        machine=first.machine,
        titles={name: title for part in parts for name, title in part.titles.items()},
        targets=list(targets.values()),
        measurements=[measurement for part in parts for measurement in part.measurements],
        missing=[missing for part in parts for missing in part.missing],
    )
