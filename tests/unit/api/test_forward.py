"""What a further gateway process hands on to the owner."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pileus.api import patience
from pileus.api.app import create_gateway_app
from pileus.api.server import create_server
from unit.api.bench import Bench

MIB = 1024 * 1024
START = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'


@asynccontextmanager
async def through_a_gateway(bench: Bench, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The owner behind a Unix socket, and a gateway in front of it on loopback."""
    owner, gateway = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))
    owner.bind(str(folder / "http.sock"))
    front = create_gateway_app(bench.services, folder / "http.sock")
    servers = [create_server(app, bench.services.settings.server) for app in (bench.app, front)]
    serving = [
        asyncio.create_task(server.serve([sock])) for server, sock in zip(servers, (owner, gateway), strict=True)
    ]
    for server in servers:
        await server.listening.wait()
    headers = bench.bearer() | {"content-type": "multipart/form-data; boundary=b"}
    url = f"http://127.0.0.1:{gateway.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
            yield client
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        await front.state.forward.close()
        owner.close()
        gateway.close()


async def test_a_large_upload_goes_through_in_pieces(bench: Bench, tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield START + FILE
        for _ in range(20):
            yield bytes(MIB)
        yield b"\r\n--b--\r\n"

    async with through_a_gateway(bench, tmp_path) as client:
        made = (await client.post("/v1/files", content=body())).json()
        assert made["bytes"] == 20 * MIB
        answer = await client.get(f"/v1/files/{made['id']}/content", headers={"range": "bytes=5-6"})
        assert (answer.status_code, answer.content) == (206, bytes(2))


async def test_a_client_that_falls_silent_is_answered_and_leaves_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SILENCE_S", 0.2)
    async with through_a_gateway(bench, tmp_path) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: {bench.bearer()['authorization']}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9000000\r\n\r\n"
        )
        writer.write(head.encode() + START + FILE + bytes(2 * MIB))
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        await _gone(tmp_path / "blobs")
        writer.close()


async def _gone(folder: Path) -> None:
    """Until no draft is left."""
    async with asyncio.timeout(10):
        while any(folder.glob("**/draft_*")):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.005)
