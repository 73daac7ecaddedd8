"""The engines that the engine contract is held against. A new driver adds one function and one line.

Engines here are small (a handful of slots, a few hundred blocks), deterministic, and slow enough to be cancelled.
"""

from collections.abc import Callable, Mapping

import pytest

from pileus.core.ports import Engine
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions

Factory = Callable[[pytest.FixtureRequest], Engine]


def open_fake(request: pytest.FixtureRequest) -> Engine:
    return FakeEngine(FakeOptions(slots=8, kv_blocks=128, max_context=1024, step_s=0.002))


ENGINES: Mapping[str, Factory] = {"fake": open_fake}
