"""The application in this process, spoken to without a socket."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from unit.api.bench import Bench, edge_bench


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a first start leaves it: copying it is ten times as fast as making it."""
    folder = tmp_path_factory.mktemp("new")
    SqliteStore.open(folder).close()
    return folder / DATABASE_FILE


@pytest.fixture
async def bench(tmp_path: Path, new_database: Path) -> AsyncIterator[Bench]:
    shutil.copy(new_database, tmp_path)
    async with edge_bench(tmp_path) as found:
        yield found


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a user's key."""
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=bench.bearer()) as found:
        yield found


@pytest.fixture
async def admin(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an admin's key."""
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=bench.bearer("admin")) as found:
        yield found
