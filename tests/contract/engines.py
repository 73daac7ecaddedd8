"""The engines that the engine contract is held against. A new driver adds one function and one line.

Engines here are small (a handful of slots, a few hundred blocks), deterministic, and slow enough to be cancelled.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pileus.core.ports import Engine, EngineSpec
from pileus.engines.native import DRIVER as NATIVE
from pileus.engines.native.options import NativeOptions
from pileus.models.low_rank import PeftReader
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions

_BLOCK_BYTES = 2 * 30 * 3 * 32 * 64 * 4  # keys and values, layers, heads, tokens, head size, float32

Factory = Callable[[pytest.FixtureRequest], Engine]


def open_fake(request: pytest.FixtureRequest) -> Engine:
    return FakeEngine(FakeOptions(slots=8, kv_blocks=128, max_context=1024, step_s=0.002))


def open_native(request: pytest.FixtureRequest) -> Engine:
    path: Path = request.getfixturevalue("smollm2_path")
    options = NativeOptions(max_sequences=8, kv_bytes=128 * _BLOCK_BYTES, max_context=1024, deterministic=True)
    return NATIVE.open(EngineSpec("smollm2", path, options, 8192, PeftReader()))


ENGINES: Mapping[str, Factory] = {"fake": open_fake, "native": open_native}
