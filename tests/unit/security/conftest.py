"""A security room over a store in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.security.service import Security
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path, busy_s=0.2)
    yield opened
    opened.close()


@pytest.fixture
def security(tmp_path: Path, store: SqliteStore, clock: ManualClock) -> Security:
    return Security.open(tmp_path, store, clock)
