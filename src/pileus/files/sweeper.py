"""Deletes contents that nobody refers to: soon where this process dropped them, after a day where a crash left them.

Only what has a key of the shapes that Pileus makes is ever searched for, and nothing is deleted in a place that belongs
to another data folder: its rows know of contents of which there are no rows here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from pileus.core.clock import Clock
from pileus.core.errors import PileusError
from pileus.observability.events import get_log
from pileus.store.blobs import MADE_PREFIXES, Blobs, is_made
from pileus.store.file_table import unreferenced
from pileus.store.port import Store

INTERVAL_S: Final = 60.0
_SEARCH_INTERVAL_S: Final = 3600.0
# What is younger may have a row soon: writers make a content durable first.
CRASHED_AFTER_S: Final = 86_400.0
_KEYS_AT_ONCE: Final = 5000

log = get_log(__name__)


class Sweeper:
    """For one event loop. `expire` is called first in each round."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, expire: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._expire = expire
        self._dropped: set[str] = set()
        self._holds = 0
        self._deleting = asyncio.Lock()
        self._search_at = float("-inf")  # monotonic

    def drop(self, keys: Iterable[str]) -> None:
        """Somebody refers to these contents no longer; they go in the next round, unless somebody else does."""
        self._dropped.update(keys)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """No content is deleted inside the block; a deletion that is at work is waited for."""
        self._holds += 1
        try:
            async with self._deleting:
                pass
            yield
        finally:
            self._holds -= 1

    async def run(self) -> None:
        """A round every minute, for ever. What cannot be reached now is tried again."""
        while True:
            try:
                await self.sweep()
            except PileusError as error:
                log.warning("files.sweep_failed", code=error.code, reason=error.message)
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> None:
        """One round."""
        await self._expire()
        is_due = self._clock.monotonic() >= self._search_at
        if (is_due or self._dropped) and not await self._blobs.may_delete():
            self._dropped.clear()  # if the place becomes this folder's, the search finds them
            return
        await self._delete_dropped()
        if is_due:
            await self._search()
            self._search_at = self._clock.monotonic() + _SEARCH_INTERVAL_S

    async def _delete_dropped(self) -> None:
        keys = frozenset(self._dropped)
        if keys and await self._delete_unreferenced(keys):
            self._dropped -= keys

    async def _search(self) -> None:
        """Look at everything that is stored here."""
        before = self._clock.wall() - CRASHED_AFTER_S
        await self._blobs.discard_drafts(before)
        old: set[str] = set()
        async for key in self._written(before):
            old.add(key)
            if len(old) == _KEYS_AT_ONCE:
                await self._delete_unreferenced(old)
                old = set()
        await self._delete_unreferenced(old)

    async def _written(self, before: float) -> AsyncIterator[str]:
        for prefix in MADE_PREFIXES:
            async for key, written_at in self._blobs.keys(prefix):
                if written_at < before and is_made(key):
                    yield key

    async def _delete_unreferenced(self, keys: Iterable[str]) -> bool:
        """Whether it came to its end."""
        async with self._deleting:
            if self._holds:
                return False
            for key in sorted(await self._store.read(lambda tx: unreferenced(tx, keys))):
                if self._holds:
                    return False
                await self._blobs.delete(key)
                log.info("files.content_deleted", key=key)
        return True
