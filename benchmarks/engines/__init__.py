"""The engines under measurement: one file each, all the same shape (`Engine`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from benchmarks.answers import Timeline
from benchmarks.peers import Say
from benchmarks.processes import Family, Process
from benchmarks.results import Target


class Setting(Struct, frozen=True):
    """What all engines are given alike."""

    threads: int
    cache: Path  # environments and weights
    logs: Path
    say: Say
    family: Family  # whatever is started belongs to it
    sequences: int = 64  # at the same time
    context: int = 1280  # the longest prompt and answer of any workload
    step_tokens: int = 256  # tokens per step, where an engine has such a dial: Pileus' own default


class Engine(Protocol):
    """An engine that is up. While others have their turn its process is paused."""

    target: Target
    process: Process

    async def generate(self, prompts: Sequence[tuple[int, ...]], output_tokens: int) -> list[Timeline]:
        """Send all prompts at once; greedy, exactly `output_tokens` each. Raises `BadAnswer`."""
        ...
