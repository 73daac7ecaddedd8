"""Adapters of deployments: on every replica, in the table, offered; whoever wrote the row."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from changing_fleet import deployment, local, until
from pileus.core.clock import SystemClock
from pileus.core.errors import InvalidRequest, ModelNotFound, NotFound, OperatorError, Unavailable
from pileus.core.records import EngineRequest, Principal, SamplingParams
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.adapters import Adapters
from pileus.fleet.controller import Fleet
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo, ServedAdapter
from pileus.store.adapter_table import AdapterTable, StoredAdapter
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import AuditTable
from replicas import PATIENCE_S, RecordingSink

BOSS = Principal("key_boss", "home", "admin", frozenset())


class Folders:
    """Meets `fleet.adapters.Finder`: an artefact is a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, artefact: str, model: str) -> tuple[str, str]:
        path = self.root / artefact
        if not path.is_dir():
            raise OperatorError(f"there is no adapter {artefact!r}")
        return f"{artefact}@1", str(path)


@asynccontextmanager
async def house(folder: Path, store: SqliteStore, **spec: Any) -> AsyncIterator[tuple[Fleet, Adapters]]:
    """Two fake replicas, whose adapters are those of the table."""
    for name in ("one", "two"):
        (folder / name).mkdir(exist_ok=True)
    fleet = Fleet([deployment(replicas=2, **spec)], local(), run_dir=folder / "run", clock=SystemClock(), grace_s=1)
    adapters = Adapters(fleet, Folders(folder), store=store, clock=SystemClock())
    adapters.open()
    fleet.start()
    try:
        await fleet.wait_ready("fake", PATIENCE_S)
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        yield fleet, adapters
    finally:
        await fleet.drain_and_stop(PATIENCE_S)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "data")
    yield store
    store.close()


async def said(link: ReplicaLink, adapter: str) -> tuple[int, ...] | str:
    """Some tokens, or why there are none."""
    sink = RecordingSink()
    request = EngineRequest(0, (1, 2, 3), SamplingParams(max_tokens=5, seed=1))
    link.submit(replace(request, adapter=adapter), sink)
    await sink.end()
    return sink.finishes[0].error or tuple(sink.tokens)


async def said_by_all(fleet: Fleet, adapter: str) -> set[tuple[int, ...] | str]:
    return {await said(link, adapter) for link in fleet.directory.ready("fake")}


async def test_an_adapter_is_on_every_replica_also_on_those_that_start_later(
    tmp_path: Path, store: SqliteStore
) -> None:
    async with house(tmp_path, store) as (fleet, adapters):
        [base] = await said_by_all(fleet, "")
        await adapters.add("fake", "mine", "one", "", BOSS)
        [answer] = await said_by_all(fleet, "one@1")
        assert answer != base
        first = fleet.directory.ready("fake")[0]
        pid = next(replica.pid for replica in fleet.status()[0].replicas if replica.id == first.replica)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(fleet, lambda: first not in fleet.directory.ready("fake"))
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        assert await said_by_all(fleet, "one@1") == {answer}
        await adapters.remove("fake", "mine", BOSS)
        assert await said_by_all(fleet, "one@1") == {"the adapter one@1 is not loaded here"}
        acts = [(each.action, each.target, each.actor) for _, each in await store.read(lambda tx: _audit(tx))]
        assert acts == [
            ("adapter.remove", "fake:mine", "key_boss"),
            ("adapter.add", "fake:mine", "key_boss"),
        ]


def _audit(tx: Connection) -> list[tuple[int, Any]]:
    return AuditTable().latest(tx, 10)


async def test_a_new_artefact_under_a_name_takes_the_place_of_the_old_one(tmp_path: Path, store: SqliteStore) -> None:
    async with house(tmp_path, store) as (fleet, adapters):
        for artefact in ("one", "two"):
            await adapters.add("fake", "mine", artefact, "", BOSS)
        assert fleet.directory.find("fake:mine", "").adapter == fleet.directory.adapters("fake")["mine"]
        assert fleet.directory.adapters("fake")["mine"].id == "two@1"
        assert await said_by_all(fleet, "one@1") == {"the adapter one@1 is not loaded here"}


async def test_a_row_that_a_job_wrote_is_served_and_so_is_one_of_before_the_start(
    tmp_path: Path, store: SqliteStore
) -> None:
    table = AdapterTable()
    await store.write(lambda tx: table.put(tx, row("early", "one")))
    await store.write(lambda tx: table.put(tx, row("lost", "gone")))
    async with house(tmp_path, store) as (fleet, adapters):
        assert len(await said_by_all(fleet, "one@1")) == 1
        assert [(each.row.name, each.error) for each in adapters.of("fake")] == [
            ("early", ""),
            ("lost", "there is no adapter 'gone'"),
        ]
        offered = asyncio.Event()
        fleet.directory.on_adapters.append(lambda *_: offered.set())

        def ends(tx: Connection) -> None:
            table.put(tx, row("late", "two"))
            adapters.on_job_ended(tx, None)  # type: ignore[arg-type]

        await store.write(ends)
        async with asyncio.timeout(PATIENCE_S):
            await offered.wait()
        assert fleet.directory.find("fake:late", "anybody").name == "fake:late"
        assert "the adapter" not in str(await said_by_all(fleet, "two@1"))


def row(name: str, artefact: str, tenant: str = "") -> StoredAdapter:
    return StoredAdapter(
        deployment="fake", name=name, artefact=artefact, tenant=tenant, created_at=float(len(name)), created_by="job"
    )


async def test_what_cannot_be_served_leaves_nothing_behind(tmp_path: Path, store: SqliteStore) -> None:
    async with house(tmp_path, store) as (fleet, adapters):
        with pytest.raises(InvalidRequest, match="there is no adapter 'gone'"):
            await adapters.add("fake", "mine", "gone", "", BOSS)
        with pytest.raises(NotFound):
            await adapters.add("nobody", "mine", "one", "", BOSS)
        with pytest.raises(InvalidRequest, match="`name`"):
            await adapters.add("fake", "my:own", "one", "", BOSS)
        with pytest.raises(NotFound, match="has no adapter 'mine'"):
            await adapters.remove("fake", "mine", BOSS)
        store.close()
        with pytest.raises(Unavailable):
            await adapters.add("fake", "mine", "one", "", BOSS)
        assert fleet.directory.adapters("fake") == {}
        assert await said_by_all(fleet, "one@1") == {"the adapter one@1 is not loaded here"}


async def test_an_engine_without_adapters_refuses_them(tmp_path: Path, store: SqliteStore) -> None:
    async with house(tmp_path, store, options={"adapters": 0}) as (_, adapters):
        with pytest.raises(InvalidRequest, match="one is refused: this engine has no adapters"):
            await adapters.add("fake", "mine", "one", "", BOSS)


def test_a_name_with_a_colon_is_a_deployment_first_and_then_an_adapter_of_the_caller() -> None:
    def served(name: str, tenant: str = "") -> ServedAdapter:
        return ServedAdapter(name=name, id=name, artefact=name, path="", tenant=tenant)

    infos = [DeploymentInfo(name=name, model="m", engine="fake", aliases=(f"{name}-alias",)) for name in ("a", "a:b")]
    directory = ServingDirectory(infos, list)
    directory.put_adapters("a", [served("b"), served("private", "acme")])
    directory.put_adapters("a:b", [served("c")])
    names = {
        asked: directory.find(asked, "acme").name
        for asked in ("a", "a:b", "a:b:c", "a-alias:b", "a-alias:private", "a:b-alias:c")
    }
    assert names == {
        "a": "a",
        "a:b": "a:b",
        "a:b:c": "a:b:c",
        "a-alias:b": "a:b",
        "a-alias:private": "a:private",
        "a:b-alias:c": "a:b:c",
    }
    for asked in ("a:private", "a:nothing", "nobody:b", ":b", "a:"):
        with pytest.raises(ModelNotFound, match=f"the model '{asked}' does not exist; there is: a, a-alias"):
            directory.find(asked, "other")
    directory.drop("a")
    with pytest.raises(ModelNotFound):
        directory.find("a-alias:b", "acme")
