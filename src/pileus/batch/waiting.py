"""What a batch does while it cannot go on: it says why in its job's log, and tries again."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

from pileus.core.clock import Clock
from pileus.core.errors import Unavailable
from pileus.jobs.handler import Context
from pileus.store.job_table import Wish

_TELL_S: Final = 60.0  # at least, between two lines of the log
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0
_MAY_PASS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

T = TypeVar("T")


class Stopped(Exception):
    """What was asked of the batch comes before what could not be done."""


class Waiting:
    """For one lease."""

    def __init__(self, context: Context, clock: Clock) -> None:
        self.stuck = False  # something of the batch's own waits for a disk, or for the store of contents
        self._context = context
        self._clock = clock
        self._told = ""
        self._told_at: float | None = None

    def tell(self, reason: str) -> None:
        """Why it waits; told where it is another reason than before, or something went on since, and never twice within
        a minute."""
        now = self._clock.monotonic()
        if reason != self._told and (self._told_at is None or now - self._told_at >= _TELL_S):
            self._told, self._told_at = reason, now
            self._context.log(f"waits: {reason}", "warning")

    def went_on(self) -> None:
        """Something was done."""
        self._told = ""

    async def patiently(self, work: Callable[[], Awaitable[T]], stops: Collection[Wish] = (Wish.PAUSE,)) -> T:
        """Its result; again and again while a disk, or the store of contents, is why there is none. Raises `Stopped`
        where it could not be done and one of `stops` is asked."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                found = await work()
            except (OSError, Unavailable) as error:
                if isinstance(error, OSError) and error.errno not in _MAY_PASS:
                    raise
                self.stuck = True
                self.tell(str(error))
            else:
                self.stuck = False
                return found
            if self._context.wish in stops:
                raise Stopped
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
