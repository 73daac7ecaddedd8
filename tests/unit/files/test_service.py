"""Files: what is stored comes back, within bounds, to its tenant only."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pileus.config.settings import Files as Limits
from pileus.core.errors import InvalidRequest, NotFound, QuotaExceeded, TooLarge, Unavailable
from pileus.files.service import FileService
from pileus.store.file_table import StoredFile
from pileus.store.local_blobs import LocalBlobs
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from unit.files.conftest import LIMITS, announced, read, sent, stored, stream

Kept = Callable[[], Awaitable[set[str]]]


async def test_a_stored_file_comes_back_with_its_hash(files: FileService, clock: ManualClock) -> None:
    file = await files.create("acme", "key_1", stream(b"ab", b"", b"c"), filename="räume.txt", purpose="evals")
    assert file.id.startswith("file-")
    assert (file.bytes, file.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert (file.tenant, file.key_id, file.filename, file.purpose) == ("acme", "key_1", "räume.txt", "evals")
    assert (file.created_at, file.expires_at) == (clock.wall(), None)
    assert await files.get("acme", file.id) == file
    assert await read(files, file) == b"abc"
    assert [piece async for piece in files.content(file, 1, 2)] == [b"b"]


async def test_another_tenants_file_is_as_if_it_were_not_there(files: FileService) -> None:
    file = await stored(files)
    assert (await files.list("other", limit=10)) == ([], False)
    for ask in (
        files.get("other", file.id),
        files.delete("other", file.id),
        files.list("other", limit=1, after=file.id),
    ):
        with pytest.raises(NotFound, match=file.id):
            await ask
    assert await files.get("acme", file.id) == file


async def test_a_list_goes_on_behind_any_file_in_both_orders(files: FileService, clock: ManualClock) -> None:
    made: list[StoredFile] = []
    for n in range(7):
        made.append(await stored(files, purpose="evals" if n % 2 else "vision"))
        clock.advance(n % 3)  # some are made in the same moment
    made.sort(key=lambda file: (file.created_at, file.id))
    for newest_first in (False, True):
        wanted = made[::-1] if newest_first else made
        for limit in (1, 3, 7):
            found, after = [], ""
            while True:
                page, more = await files.list("acme", limit=limit, after=after, newest_first=newest_first)
                assert len(page) <= limit
                found += page
                if not more:
                    break
                after = page[-1].id
            assert found == wanted
    of_one, _ = await files.list("acme", limit=10, purpose="vision", newest_first=False)
    assert of_one == [file for file in made if file.purpose == "vision"]
    assert await files.list("acme", limit=0) == ([], True)


async def test_what_is_too_large_leaves_nothing(files: FileService, kept: Kept) -> None:
    pieces = [b"x" * 60_000] * 2
    with pytest.raises(TooLarge, match="100000"):
        await files.create("acme", "key_1", stream(*pieces), filename="a", purpose="evals")
    assert await kept() == set()
    assert (await files.list("acme", limit=10)) == ([], False)


async def test_a_stream_that_breaks_leaves_nothing(
    store: SqliteStore, blobs: LocalBlobs, clock: ManualClock, kept: Kept
) -> None:
    files = FileService(store, blobs, clock, Limits(max_bytes=2 * 1024 * 1024))

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(1024 * 1024)
        assert await kept(), "there is something that could be left"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await files.create("acme", "key_1", broken(), filename="a", purpose="evals")
    assert await kept() == set()


@pytest.mark.parametrize(
    "name", ["", " ", "../../x.pth", "a/b", "a\\b", "..", ".", "a\nb", "a\x00", "a\x1b[31m", "\u202egnp.exe", "x" * 256]
)
async def test_a_filename_is_a_label_and_not_a_path(files: FileService, kept: Kept, name: str) -> None:
    with pytest.raises(InvalidRequest, match="filename"):
        await files.create("acme", "key_1", stream(b"x"), filename=name, purpose="evals")
    assert await kept() == set()


async def test_a_tenant_has_so_much_and_no_more(files: FileService, kept: Kept) -> None:
    first, *_ = [await stored(files, b"x" * 100_000) for _ in range(2)]
    await stored(files, b"x" * 100_000, tenant="other")
    with pytest.raises(QuotaExceeded):
        await stored(files, b"x" * 50_001)
    await stored(files, b"x" * 50_000)
    with pytest.raises(QuotaExceeded):
        await stored(files, b"x")
    assert len(await kept()) == 4
    await files.delete("acme", first.id)
    await stored(files, b"x" * 100_000)


async def test_what_is_under_way_counts_too(files: FileService) -> None:
    async with files.incoming("acme") as one, files.incoming("acme") as two, files.incoming("acme") as three:
        await one.write(b"x" * 100_000)
        await two.write(b"x" * 100_000)
        with pytest.raises(QuotaExceeded):
            await three.write(b"x" * 50_001)
    await stored(files, b"x" * 100_000)


async def test_of_two_that_finish_together_only_what_fits_is_kept(files: FileService) -> None:
    """Each was told that there is room before the other had its row."""
    quarter = LIMITS.max_tenant_bytes // 4
    await asyncio.gather(*(stored(files, b"x" * quarter) for _ in range(2)))
    async with files.incoming("acme") as one:
        await one.write(b"x" * quarter)
        await stored(files, b"x" * quarter)
        with pytest.raises(QuotaExceeded):
            await stored(files, b"x" * quarter)
        await files.add(one, key_id="key_1", filename="a", purpose="evals")
    found, _ = await files.list("acme", limit=10)
    assert sum(file.bytes for file in found) == LIMITS.max_tenant_bytes


async def test_an_expired_file_is_gone_before_the_sweeper_comes(files: FileService, clock: ManualClock) -> None:
    file = await stored(files, expires_s=3600)
    batch = await stored(files, purpose="batch")
    assert batch.expires_at == clock.wall() + 30 * 86_400
    clock.advance(3599)
    assert (await files.get("acme", file.id)).expires_at == file.created_at + 3600
    clock.advance(1)
    with pytest.raises(NotFound):
        await files.get("acme", file.id)
    assert (await files.list("acme", limit=10))[0] == [batch]


async def test_a_row_that_cannot_be_written_keeps_its_content_until_it_is_sure(
    files: FileService, store: SqliteStore, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed commit the row may be there or not; the sweeper looks."""
    real = store.write

    async def written_but_in_doubt(work: object) -> object:
        await real(work)  # type: ignore[arg-type]
        raise Unavailable(retry_after_s=1)

    monkeypatch.setattr(store, "write", written_but_in_doubt)
    with pytest.raises(Unavailable):
        await stored(files)
    monkeypatch.setattr(store, "write", real)
    await files.sweep()
    [file], _ = await files.list("acme", limit=10)
    assert await read(files, file) == b"content"

    async def not_written(_: object) -> object:
        raise Unavailable(retry_after_s=1)

    monkeypatch.setattr(store, "write", not_written)
    with pytest.raises(Unavailable):
        await stored(files)
    monkeypatch.setattr(store, "write", real)
    assert len(await kept()) == 2
    await files.sweep()
    assert await kept() == {file.blob}


async def test_a_list_goes_on_behind_a_file_that_is_gone(files: FileService, clock: ManualClock) -> None:
    made = [await stored(files, expires_s=3600 if n % 2 else None) for n in range(8)]
    clock.advance(3600)  # half of them have expired, and are there until the sweeper comes
    made.sort(key=lambda file: (file.created_at, file.id))
    lasting = [file for file in made if file.expires_at is None]
    for after in made:
        for _ in range(2):
            behind = [file for file in lasting if file.id > after.id]
            assert (await files.list("acme", limit=10, after=after.id, newest_first=False))[0] == behind
            await files.sweep()
        if after in lasting:
            await files.delete("acme", after.id)
            assert (await files.list("acme", limit=10, after=after.id, newest_first=False))[0] == behind
            lasting.remove(after)
        with pytest.raises(NotFound, match=after.id):
            await files.list("other", limit=10, after=after.id)
    clock.advance(86_401)
    await files.sweep()
    with pytest.raises(NotFound):
        await files.list("acme", limit=10, after=made[0].id)


async def test_a_tenant_has_so_many_files_and_no_more(
    store: SqliteStore, blobs: LocalBlobs, clock: ManualClock, kept: Kept
) -> None:
    files = FileService(store, blobs, clock, Limits(max_tenant_files=3))
    first = await stored(files)
    upload = await announced(files, 2)
    await stored(files, tenant="other")
    parts = [await sent(files, upload, b"a"), await sent(files, upload, b"b")]  # the upload counts until it has parts
    before = await kept()
    for ask in (stored(files), announced(files, 0), sent(files, upload, b"c"), stored(files, b"")):
        with pytest.raises(QuotaExceeded, match="more than 3,"):
            await ask
    await files.sweep()
    assert await kept() == before
    await files.uploads.complete("acme", upload.id, [part.id for part in parts], None)
    await stored(files)
    with pytest.raises(QuotaExceeded):
        await stored(files)
    await files.delete("acme", first.id)
    await stored(files)
