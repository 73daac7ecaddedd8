"""`/v1/files` and `/v1/uploads` on the wire."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from pileus.api.openapi import document
from pileus.core.errors import Unavailable
from unit.api.bench import Bench, listening

MIB = 1024 * 1024


async def stored(client: httpx.AsyncClient, content: bytes = b"0123456789", name: str = "a.txt") -> dict[str, Any]:
    answer = await client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "user_data"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def left(tmp_path: Path) -> list[str]:
    """Files in the blob store, drafts included."""
    return [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_a_file_has_openais_form(client: httpx.AsyncClient, bench: Bench) -> None:
    made = await stored(client)
    assert made == {
        "id": made["id"],
        "object": "file",
        "bytes": 10,
        "created_at": int(bench.clock.wall()),
        "expires_at": None,
        "filename": "a.txt",
        "purpose": "user_data",
        "status": "processed",
    }
    assert (await client.get(f"/v1/files/{made['id']}")).json() == made
    page = {"object": "list", "data": [made], "first_id": made["id"], "last_id": made["id"], "has_more": False}
    assert (await client.get("/v1/files")).json() == page
    gone = (await client.delete(f"/v1/files/{made['id']}")).json()
    assert gone == {"id": made["id"], "object": "file", "deleted": True}
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert (await client.get("/v1/files")).json() == empty


async def test_an_upload_has_openais_form(client: httpx.AsyncClient, bench: Bench) -> None:
    wish = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"}
    upload = (await client.post("/v1/uploads", json=wish)).json()
    now = int(bench.clock.wall())
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": 3,
        "created_at": now,
        "expires_at": now + 3600,
        "filename": "a.txt",
        "purpose": "user_data",
        "status": "pending",
    }
    path = f"/v1/uploads/{upload['id']}"
    part = (await client.post(f"{path}/parts", files={"data": b"abc"})).json()
    assert part == {"id": part["id"], "object": "upload.part", "created_at": now, "upload_id": upload["id"]}
    done = (await client.post(f"{path}/complete", json={"part_ids": [part["id"]]})).json()
    assert done == upload | {"status": "completed", "file": done["file"]}
    assert (await client.get(f"/v1/files/{done['file']['id']}/content")).content == b"abc"
    other = (await client.post("/v1/uploads", json=wish)).json()
    cancelled = (await client.post(f"/v1/uploads/{other['id']}/cancel")).json()
    assert cancelled == other | {"status": "cancelled"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "world domination"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "batch", "colour": "blue"}, "colour"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        *(
            (
                {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": text},
                "expires_after[seconds]",
            )
            for text in ("3599", "2592001", "-3600", "1e4", "٣٦٠٠", "", "9" * 1000)
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            "expires_after[anchor]",
        ),
    ],
)
async def test_a_wish_that_is_wrong_is_named(
    client: httpx.AsyncClient, tmp_path: Path, fields: dict[str, str], param: str
) -> None:
    answer = await client.post("/v1/files", files={"file": ("a", b"x" * MIB)}, data=fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=10001", "limit=x", "order=up", "colour=blue", "after=file-none", "limit="]
)
async def test_a_list_that_cannot_be_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/files?{query}")
    assert answer.status_code == (404 if query.startswith("after") else 400)


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": -1},
        {"bytes": "3"},
        {"bytes": 10**12},
        {"filename": "../../x.pth"},
        {"filename": ""},
        {"purpose": "batch_output"},
        {"mime_type": ""},
        {"mime_type": None},
        {"expires_after": {"anchor": "created_at", "seconds": 60}},
        {"expires_after": {"seconds": 3600}},
        {"colour": "blue"},
    ],
)
async def test_an_upload_that_cannot_be_is_refused_by_name(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    wish = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"} | change
    answer = await client.post("/v1/uploads", json=wish)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(next(iter(change)))


@pytest.mark.parametrize(
    ("wanted", "content", "span"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ],
)
async def test_a_range_is_that_part(client: httpx.AsyncClient, wanted: str, content: bytes, span: str) -> None:
    path = f"/v1/files/{(await stored(client))['id']}/content"
    answer = await client.get(path, headers={"range": wanted})
    assert (answer.status_code, answer.content) == (206, content)
    assert answer.headers["content-range"] == span
    assert answer.headers["content-length"] == str(len(content))


@pytest.mark.parametrize("wanted", ["bytes=5-3", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes= 0-1"])
async def test_what_is_no_single_range_gets_the_whole(client: httpx.AsyncClient, wanted: str) -> None:
    answer = await client.get(f"/v1/files/{(await stored(client))['id']}/content", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused_with_the_size(client: httpx.AsyncClient, wanted: str) -> None:
    answer = await client.get(f"/v1/files/{(await stored(client))['id']}/content", headers={"range": wanted})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.txt", "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
        ("räume.txt", "attachment; filename=\"r_ume.txt\"; filename*=UTF-8''r%C3%A4ume.txt"),
        ("a;b'c.txt", "attachment; filename=\"a;b'c.txt\"; filename*=UTF-8''a%3Bb%27c.txt"),
    ],
)
async def test_a_download_has_its_name_safely(client: httpx.AsyncClient, name: str, header: str) -> None:
    made = await stored(client, name=name)
    assert made["filename"] == name
    answer = await client.get(f"/v1/files/{made['id']}/content")
    assert answer.headers["content-disposition"] == header
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    async with listening(bench) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: {bench.bearer()['authorization']}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9000000\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        writer.write(head.encode() + os.urandom(4 * MIB))
        await writer.drain()
        async with asyncio.timeout(10):
            while not left(tmp_path):  # noqa: ASYNC110 - only the folder tells
                await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while left(tmp_path):  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_a_reader_that_leaves_ends_the_reading(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await stored(client, os.urandom(32 * MIB))
    real, ended, given = bench.services.files.content, asyncio.Event(), 0

    async def watched(*args: Any) -> Any:
        nonlocal given
        try:
            async for piece in real(*args):
                given += len(piece)
                yield piece
        finally:
            ended.set()

    monkeypatch.setattr(bench.services.files, "content", watched)
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /v1/files/{made['id']}/content HTTP/1.1\r\nhost: x\r\n"
        writer.write(f"{head}authorization: {bench.bearer()['authorization']}\r\n\r\n".encode())
        await reader.readexactly(MIB)
        writer.close()
        async with asyncio.timeout(10):
            await ended.wait()
    assert given < 32 * MIB


async def test_a_content_that_cannot_be_reached_has_its_proper_answer(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await stored(client)

    async def away(*_: Any) -> Any:
        raise Unavailable(retry_after_s=5)
        yield b""

    monkeypatch.setattr(bench.services.files, "content", away)
    answer = await client.get(f"/v1/files/{made['id']}/content")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_key_that_was_closed_meanwhile_stores_nothing(bench: Bench, tmp_path: Path) -> None:
    transport = httpx.ASGITransport(bench.app)

    async def body() -> Any:
        yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        await bench.services.keys.revoke(bench.user_id)
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--'

    headers = bench.bearer() | {"content-type": "multipart/form-data; boundary=b"}
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=headers) as client:
        assert (await client.post("/v1/files", content=body())).status_code == 401
    assert left(tmp_path) == []


async def test_the_document_has_the_forms(bench: Bench) -> None:
    paths = document(bench.app)["paths"]
    body = paths["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(body["properties"]) == {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
    assert body["required"] == ["file", "purpose"]
    assert "batch" in body["properties"]["purpose"]["enum"]
    assert "multipart/form-data" in paths["/v1/uploads/{upload_id}/parts"]["post"]["requestBody"]["content"]
    answer = paths["/v1/files/{file_id}/content"]["get"]["responses"]["200"]["content"]
    assert list(answer) == ["application/octet-stream"]
