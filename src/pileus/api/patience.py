"""How long the next bytes of a body are waited for, where the body as a whole may take hours on a thin line."""

import asyncio
from time import monotonic
from typing import Final

from starlette.types import Message, Receive

from pileus.api.errors import BodyTooSlow

SILENCE_S: Final = 30.0
LEAST_BYTES_PER_S: Final = 1024  # on average, once the first silence is over


class Patience:
    """For one body. What its reader does between two messages counts for nothing."""

    def __init__(self, receive: Receive) -> None:
        self.bytes = 0  # that have come
        self._receive = receive
        self._waited_s = 0.0

    async def receive(self) -> Message:
        """The next message. Raises `BodyTooSlow` after a silence, or where bytes only trickle."""
        left_s = SILENCE_S + self.bytes / LEAST_BYTES_PER_S - self._waited_s
        began = monotonic()
        try:
            async with asyncio.timeout(min(SILENCE_S, left_s)):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._waited_s += monotonic() - began
        self.bytes += len(message.get("body", b""))
        return message
