"""`/admin/v1/backup`: a whole archive for an admin, on record before it is made."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pileus.security.permission import Permission
from pileus.store.archive import Manifest, Reader
from pileus.store.backup import Backup
from unit.api.bench import Bench, listening

PATH = "/admin/v1/backup"


def read(content: bytes) -> Manifest:
    reader = Reader(io.BytesIO(content))
    for member in reader.members():
        for _ in member.pieces():
            pass
    assert reader.manifest is not None
    return reader.manifest


async def test_an_admin_gets_a_whole_archive_and_its_size_beforehand(admin: httpx.AsyncClient) -> None:
    response = await admin.get(PATH)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["cache-control"] == "no-store"
    assert 0 < int(response.headers["x-pileus-backup-bytes"]) <= len(response.content)
    manifest = read(response.content)
    assert manifest.pileus == "1.2.3"
    assert [member.name for member in manifest.members] == ["pileus.db"]


async def test_models_come_when_they_are_asked_for(bench: Bench, admin: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights").write_bytes(b"w")
    assert len(read((await admin.get(f"{PATH}?models=true")).content).members) == 2
    assert len(read((await admin.get(f"{PATH}?models=false")).content).members) == 1
    refused = await admin.get(f"{PATH}?models=all")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "models")


async def test_nobody_else_gets_one(bench: Bench, client: httpx.AsyncClient) -> None:
    _, operator = await bench.services.keys.create("ops", "operator")
    for headers in ({}, {"authorization": f"Bearer {operator}"}):
        response = await client.get(PATH, headers=headers)
        assert response.status_code == 403
        assert Permission.BACKUP in response.json()["error"]["message"]


async def test_it_is_on_record_before_it_is_made(bench: Bench, admin: httpx.AsyncClient) -> None:
    await admin.get(f"{PATH}?models=true")
    [(_, event)] = await bench.services.audit.latest(1)
    assert (event.action, event.target, event.outcome) == ("backup.make", "with models", "ok")


async def test_one_that_cannot_be_recorded_is_not_made(bench: Bench, admin: httpx.AsyncClient) -> None:
    bench.store.close()
    response = await admin.get(PATH)
    assert response.status_code == 503
    assert b"pileus.db" not in response.content


async def test_a_second_one_at_the_same_time_is_told_to_come_back(bench: Bench, admin: httpx.AsyncClient) -> None:
    async with bench.services.backups.make():
        response = await admin.get(PATH)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert (await admin.get(PATH)).status_code == 200


async def test_where_something_goes_wrong_on_the_way_the_answer_has_no_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Backup) -> Iterator[bytes]:
        yield b"x"
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Backup, "pieces", broken)
    async with listening(bench) as port, httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}{PATH}", headers=bench.bearer("admin"))


async def test_a_client_that_leaves_makes_room_for_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Backup.pieces

    def endless(self: Backup) -> Iterator[bytes]:
        while True:
            yield b"x" * 1024

    monkeypatch.setattr(Backup, "pieces", endless)
    async with listening(bench) as port, httpx.AsyncClient(trust_env=False, headers=bench.bearer("admin")) as client:
        url = f"http://127.0.0.1:{port}{PATH}"
        async with client.stream("GET", url) as response:
            assert response.status_code == 200
        monkeypatch.setattr(Backup, "pieces", whole)
        async with asyncio.timeout(10):
            while (again := await client.get(url)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the server learns of it from the connection
        read(again.content)
