"""A store in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "data", busy_s=0.2)
    yield opened
    opened.close()
