"""A place for contents that lies outside the data folder, and belongs to one data folder only.

An object `owner` in the place says to whom: its content is an id that the data folder has too, in the file
`blobs.owner`. Who comes first to a place without an owner owns it. A data folder whose id is another one's, or that has
none, e.g. one that a backup was restored to, reads what lies there and neither writes nor deletes: what it does not
know may be the owner's, and what it wrote would be nothing that the owner knows. Where it is to take over, somebody
deletes the object, and the next look claims the place.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pileus.core.clock import Clock
from pileus.core.errors import NotFound, Unavailable
from pileus.core.ids import new_id
from pileus.observability.events import get_log
from pileus.store.blobs import BlobDraft, Blobs
from pileus.store.durable import sync_folder

OWNER_FILE: Final = "blobs.owner"
OWNER_KEY: Final = "owner"
_MOST_BYTES: Final = 256  # of an id
_TRUSTED_S: Final = 60.0  # how long a look counts for writers
_RETRY_AFTER_S: Final = 60.0

log = get_log(__name__)


class ClaimedBlobs:
    """See `store.blobs.Blobs`. All processes of a data folder share its claim."""

    def __init__(self, blobs: Blobs, data_dir: Path, clock: Clock) -> None:
        self._blobs = blobs
        self._file = data_dir / OWNER_FILE
        self._clock = clock
        self._trusted_until = float("-inf")  # monotonic
        self._has_warned = False

    async def create(self, key: str) -> BlobDraft:
        """Raises `Unavailable` also where the place is another data folder's."""
        if self._clock.monotonic() >= self._trusted_until and not await self.may_delete():
            raise Unavailable(
                "Pileus cannot keep contents at present: their place belongs to another data folder.",
                retry_after_s=_RETRY_AFTER_S,
            )
        return await self._blobs.create(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._blobs.read(key, start, end)

    async def delete(self, key: str) -> None:
        await self._blobs.delete(key)

    def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        return self._blobs.keys(prefix)

    async def discard_drafts(self, before: float) -> None:
        await self._blobs.discard_drafts(before)

    async def may_delete(self) -> bool:
        owner = await self._owner()
        if not owner:
            await self._claim()
            owner = await self._owner()
        is_ours = bool(owner) and owner == await asyncio.to_thread(_own_id, self._file)
        self._trusted_until = self._clock.monotonic() + _TRUSTED_S if is_ours else float("-inf")
        if not is_ours and not self._has_warned:
            log.warning("blobs.owned_by_another", owner=owner, object=OWNER_KEY, reason="nothing is stored or deleted")
        self._has_warned = not is_ours
        return is_ours

    async def _owner(self) -> str:
        """Empty where the place has none."""
        try:
            content = b"".join([piece async for piece in self._blobs.read(OWNER_KEY, 0, _MOST_BYTES)])
        except NotFound:
            return ""
        return content.decode(errors="replace").strip()

    async def _claim(self) -> None:
        own = await asyncio.to_thread(_made_id, self._file)
        draft = await self._blobs.create(OWNER_KEY)
        try:
            await draft.write(own.encode() + b"\n")
            await draft.commit()
        finally:
            await draft.abort()
        log.info("blobs.claimed", owner=own)


def _own_id(file: Path) -> str:
    """Empty where there is none. Raises `Unavailable`."""
    try:
        return file.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unavailable(error) from error


def _made_id(file: Path) -> str:
    """The one that is there, or a new one, on the disk; of several processes that make one, one prevails. Raises
    `Unavailable`."""
    draft = file.with_name(new_id(f"{file.name}.draft"))
    try:
        if not _own_id(file):
            with draft.open("x") as opened:
                opened.write(new_id("place") + "\n")
                opened.flush()
                os.fsync(opened.fileno())
            with suppress(FileExistsError):
                os.link(draft, file)
            sync_folder(file.parent)
        return _own_id(file)
    except OSError as error:
        raise _unavailable(error) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _unavailable(error: OSError) -> Unavailable:
    reason = error.strerror or str(error)
    return Unavailable(f"Pileus cannot keep contents at present: {reason}.", retry_after_s=_RETRY_AFTER_S)
