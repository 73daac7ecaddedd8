"""Uploads: parts in any order become one file, or nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pileus.core.errors import InvalidRequest, NotFound, QuotaExceeded, TooLarge
from pileus.files.service import FileService
from pileus.store.local_blobs import LocalBlobs
from pileus.testing.clock import ManualClock
from unit.files.conftest import announced, read, sent, stored

Kept = Callable[[], Awaitable[set[str]]]


async def test_parts_become_a_file_in_the_order_that_is_asked_for(files: FileService, kept: Kept) -> None:
    upload = await announced(files, 6)
    assert (upload.status, upload.expires_at) == ("pending", upload.created_at + 3600)
    second, first = [await sent(files, upload, data) for data in (b"def", b"abc")]
    md5 = hashlib.md5(b"abcdef").hexdigest().upper()
    done, file = await files.uploads.complete("acme", upload.id, [first.id, second.id], md5)
    assert (done.status, done.file_id) == ("completed", file.id)
    assert (file.bytes, file.filename, file.purpose, file.key_id) == (6, "a.txt", "user_data", "key_1")
    assert file.sha256 == hashlib.sha256(b"abcdef").hexdigest()
    assert await read(files, file) == b"abcdef"
    await files.sweep()
    assert await kept() == {file.blob}


async def test_a_part_that_was_sent_twice_does_no_harm(files: FileService, kept: Kept) -> None:
    upload = await announced(files, 3)
    _, again = [await sent(files, upload, b"abc") for _ in range(2)]
    _, file = await files.uploads.complete("acme", upload.id, [again.id], None)
    await files.sweep()
    assert await kept() == {file.blob}


@pytest.mark.parametrize(
    ("choose", "md5", "reason"),
    [
        ([0], None, "3 bytes together, and 6 were announced"),
        ([0, 0], None, "twice"),
        ([0, 1, 2], None, "no part of this upload"),
        ([0, 1], "0" * 32, "md5"),
        ([], None, "0 bytes together"),
    ],
)
async def test_what_was_not_announced_is_not_completed(
    files: FileService, kept: Kept, choose: list[int], md5: str | None, reason: str
) -> None:
    upload, other = await announced(files, 6), await announced(files, 3)
    ids = [
        (await sent(files, upload, b"abc")).id,
        (await sent(files, upload, b"def")).id,
        (await sent(files, other, b"abc")).id,
    ]
    before = await kept()
    with pytest.raises(InvalidRequest, match=reason):
        await files.uploads.complete("acme", upload.id, [ids[n] for n in choose], md5)
    assert await kept() == before
    assert (await files.list("acme", limit=1)) == ([], False)
    await files.uploads.complete("acme", upload.id, ids[:2], None)


async def test_another_tenants_upload_is_not_found(files: FileService) -> None:
    upload = await announced(files, 3)
    part = await sent(files, upload, b"abc")
    for ask in (
        files.uploads.pending("other", upload.id),
        files.uploads.complete("other", upload.id, [part.id], None),
        files.uploads.cancel("other", upload.id),
    ):
        with pytest.raises(NotFound, match=upload.id):
            await ask
    await files.uploads.complete("acme", upload.id, [part.id], None)


async def test_what_is_over_takes_nothing_more(files: FileService, kept: Kept) -> None:
    done, cancelled = await announced(files, 3), await announced(files, 3)
    part = await sent(files, done, b"abc")
    await sent(files, cancelled, b"abc")
    _, file = await files.uploads.complete("acme", done.id, [part.id], None)
    assert (await files.uploads.cancel("acme", cancelled.id)).status == "cancelled"
    for upload, status in ((done, "completed"), (cancelled, "cancelled")):
        for ask in (
            files.uploads.pending("acme", upload.id),
            sent(files, upload, b"abc"),
            files.uploads.complete("acme", upload.id, [part.id], None),
            files.uploads.cancel("acme", upload.id),
        ):
            with pytest.raises(InvalidRequest, match=f"is {status}"):
                await ask
    await files.sweep()
    assert await kept() == {file.blob}


async def test_two_completions_at_once_make_one_file(files: FileService, kept: Kept) -> None:
    upload = await announced(files, 50_000)
    part = await sent(files, upload, b"x" * 50_000)
    ask = (files.uploads.complete("acme", upload.id, [part.id], None) for _ in range(2))
    outcomes = await asyncio.gather(*ask, return_exceptions=True)
    assert sum(isinstance(outcome, InvalidRequest) for outcome in outcomes) == 1
    [file], _ = await files.list("acme", limit=10)
    await files.sweep()
    assert await kept() == {file.blob}


async def test_an_upload_expires_after_an_hour(files: FileService, kept: Kept, clock: ManualClock) -> None:
    upload = await announced(files, 3)
    part = await sent(files, upload, b"abc")
    clock.advance(3600)
    with pytest.raises(InvalidRequest, match="is expired"):
        await files.uploads.complete("acme", upload.id, [part.id], None)
    await files.sweep()
    assert await kept() == set()
    with pytest.raises(InvalidRequest, match="is expired"):
        await sent(files, upload, b"abc")
    clock.advance(2 * 86_400)
    await files.sweep()
    with pytest.raises(NotFound):
        await files.uploads.pending("acme", upload.id)


async def test_a_file_of_an_upload_expires_from_its_completion(files: FileService, clock: ManualClock) -> None:
    upload = await files.uploads.create("acme", "key_1", size=0, filename="a", purpose="user_data", file_expires_s=7200)
    clock.advance(600)
    _, file = await files.uploads.complete("acme", upload.id, [], None)
    assert file.expires_at == clock.wall() + 7200


async def test_an_upload_counts_as_announced_and_once(files: FileService) -> None:
    """250,000 bytes are the tenant's."""
    upload = await announced(files, 100_000)
    await announced(files, 100_000)
    with pytest.raises(QuotaExceeded):
        await announced(files, 50_001)
    with pytest.raises(QuotaExceeded):
        await stored(files, b"x" * 50_001)
    await stored(files, b"x" * 50_000)
    part = await sent(files, upload, b"x" * 100_000)
    with pytest.raises(QuotaExceeded):
        await sent(files, upload, b"x")
    await files.uploads.complete("acme", upload.id, [part.id], None)
    with pytest.raises(QuotaExceeded):
        await stored(files, b"x")


async def test_what_is_too_large_is_refused_when_it_is_announced(files: FileService) -> None:
    with pytest.raises(InvalidRequest, match="100000") as refused:
        await announced(files, 100_001)
    assert refused.value.param == "bytes"


async def test_a_part_has_a_bound_of_its_own_and_all_have_one_together(
    files: FileService, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.files.uploads.MOST_PART_BYTES", 1000)
    upload = await announced(files, 1000)
    with pytest.raises(TooLarge, match="1000 bytes"):
        await sent(files, upload, b"x" * 1001)
    assert await kept() == set()
    for _ in range(3):
        await sent(files, upload, b"x" * 1000)
    with pytest.raises(TooLarge, match="announced"):
        await sent(files, upload, b"x")


@pytest.fixture
def slow_assembly(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Whether a completion has begun to read parts, and whether it may go on."""
    begun, go_on, real = asyncio.Event(), asyncio.Event(), blobs.read

    async def slow(key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        async for piece in real(key, start, end):
            yield piece

    monkeypatch.setattr(blobs, "read", slow)
    return begun, go_on


async def test_an_upload_that_is_being_completed_does_not_expire(
    files: FileService, clock: ManualClock, slow_assembly: tuple[asyncio.Event, asyncio.Event]
) -> None:
    begun, go_on = slow_assembly
    upload = await announced(files, 3)
    part = await sent(files, upload, b"abc")
    completing = asyncio.create_task(files.uploads.complete("acme", upload.id, [part.id], None))
    await begun.wait()
    with pytest.raises(InvalidRequest, match="being completed"):
        await files.uploads.complete("acme", upload.id, [part.id], None)
    clock.advance(3601)
    await files.sweep()
    go_on.set()
    _, file = await completing
    assert await read(files, file) == b"abc"


async def test_an_upload_that_is_cancelled_while_it_is_completed_makes_no_file(
    files: FileService, kept: Kept, slow_assembly: tuple[asyncio.Event, asyncio.Event]
) -> None:
    begun, go_on = slow_assembly
    upload = await announced(files, 3)
    part = await sent(files, upload, b"abc")
    completing = asyncio.create_task(files.uploads.complete("acme", upload.id, [part.id], None))
    await begun.wait()
    await files.uploads.cancel("acme", upload.id)
    go_on.set()
    with pytest.raises(InvalidRequest, match="is cancelled"):
        await completing
    await files.sweep()
    assert await kept() == set()
    assert (await files.list("acme", limit=1)) == ([], False)


async def test_an_upload_has_so_many_parts_and_none_is_empty(
    files: FileService, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.files.uploads.MOST_PARTS", 3)
    upload = await announced(files, 3)
    with pytest.raises(InvalidRequest, match="empty") as refused:
        await sent(files, upload, b"")
    assert refused.value.param == "data"
    parts = [await sent(files, upload, b"x") for _ in range(3)]
    before = await kept()
    with pytest.raises(InvalidRequest, match="has 3 parts"):
        await sent(files, upload, b"x")
    await files.sweep()
    assert await kept() == before
    await files.uploads.complete("acme", upload.id, [part.id for part in parts], None)
