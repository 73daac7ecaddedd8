"""A place outside the data folder belongs to one data folder."""

import asyncio
from pathlib import Path

import pytest

from pileus.core.errors import Unavailable
from pileus.store.blobs import Blobs
from pileus.store.claimed_blobs import ClaimedBlobs
from pileus.store.local_blobs import LocalBlobs
from pileus.testing.clock import ManualClock


@pytest.fixture
def place(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "place")


def claimed(place: Blobs, tmp_path: Path, name: str, clock: ManualClock | None = None) -> ClaimedBlobs:
    (tmp_path / name).mkdir(exist_ok=True)
    return ClaimedBlobs(place, tmp_path / name, clock or ManualClock())


async def put(blobs: Blobs, key: str) -> None:
    draft = await blobs.create(key)
    await draft.write(b"x")
    await draft.commit()


async def test_who_comes_first_owns_the_place(place: LocalBlobs, tmp_path: Path) -> None:
    await put(claimed(place, tmp_path, "one"), "a")
    assert (tmp_path / "place" / "owner").read_bytes() == (tmp_path / "one" / "blobs.owner").read_bytes()
    assert await claimed(place, tmp_path, "one").may_delete(), "also after a restart"
    two = claimed(place, tmp_path, "two")
    assert not await two.may_delete()
    with pytest.raises(Unavailable, match="belongs to another data folder"):
        await two.create("b")
    assert b"".join([piece async for piece in two.read("a")]) == b"x"
    assert [entry.name for entry in (tmp_path / "two").iterdir()] == []


async def test_who_deletes_the_object_hands_the_place_over(place: LocalBlobs, tmp_path: Path) -> None:
    clock = ManualClock()
    one, two = claimed(place, tmp_path, "one", clock), claimed(place, tmp_path, "two", clock)
    await put(one, "a")
    assert not await two.may_delete()
    await place.delete("owner")
    await put(two, "b")
    assert await two.may_delete()
    await put(one, "c")  # a look counts for a minute
    clock.advance(60)
    with pytest.raises(Unavailable):
        await one.create("d")
    assert not await one.may_delete()


async def test_processes_of_one_folder_claim_together(place: LocalBlobs, tmp_path: Path) -> None:
    several = [claimed(place, tmp_path, "one") for _ in range(8)]
    assert await asyncio.gather(*(each.may_delete() for each in several)) == [True] * 8
    assert [entry.name for entry in (tmp_path / "one").iterdir()] == ["blobs.owner"]


async def test_an_empty_owner_file_owns_nothing(place: LocalBlobs, tmp_path: Path) -> None:
    one = claimed(place, tmp_path, "one")
    (tmp_path / "one" / "blobs.owner").touch()
    assert not await one.may_delete()


async def test_a_data_folder_that_cannot_be_read_or_written_is_told(place: LocalBlobs, tmp_path: Path) -> None:
    one = claimed(place, tmp_path, "one")
    (tmp_path / "one" / "blobs.owner").mkdir()
    with pytest.raises(Unavailable, match="directory"):
        await one.may_delete()
    (tmp_path / "one" / "blobs.owner").rmdir()
    (tmp_path / "one").rmdir()
    with pytest.raises(Unavailable, match="No such file"):
        await one.may_delete()


async def test_another_owner_is_warned_of_once(
    place: LocalBlobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(claimed(place, tmp_path, "one"), "a")
    two = claimed(place, tmp_path, "two")
    for _ in range(3):
        await two.may_delete()
    assert capsys.readouterr().out.count("blobs.owned_by_another") == 1
