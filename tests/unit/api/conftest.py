"""The application in this process, spoken to without a socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from unit.api.bench import Bench, edge_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
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
