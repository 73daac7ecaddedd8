"""Why lines of a batch will never run: each of them is told so in the error file."""

import asyncio
from typing import Final

from msgspec import Struct


class LineError(Struct, frozen=True):
    """Why there is no response."""

    code: str
    message: str


EXPIRED: Final = LineError("batch_expired", "This request was not done before the batch's completion window was over.")
CANCELLED: Final = LineError("batch_cancelled", "This request was not done before the batch was cancelled.")


def key_closed(reason: str) -> LineError:
    return LineError("key_closed", f"This request was not done: the batch's key lost its right. {reason}")


def no_budget(reason: str) -> LineError:
    words = f"This request was not done: the budget of the batch's key is used up. The last refusal: {reason}"
    return LineError("insufficient_quota", words)


class Ending:
    """That a batch has to end before all of its lines ran, though nobody asked for it. For one lease."""

    def __init__(self) -> None:
        self.reason: LineError | None = None  # the first that came
        self._came = asyncio.Event()

    def come(self, reason: LineError) -> None:
        self.reason = self.reason or reason
        self._came.set()

    async def wait(self) -> None:
        """Return once there is a reason."""
        await self._came.wait()
