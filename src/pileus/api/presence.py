"""Notices that a client left, or lost its right, while its answer is being made.

A handler that only awaits its result never learns of a closed connection: somebody has to await `receive()` beside it.
`Presence` does, and interrupts its owner wherever that waits: in the queue, before the first token, in mid-answer or in
a slow write. It is built like `asyncio.timeout`: the interruption is a task cancellation that leaves the block as the
reason for it.
"""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from pileus.core.errors import PileusError


class ClientLeft(Exception):
    """The client closed its connection before it had its answer."""


class Presence:
    """`async with` around everything that is done for a client that waits."""

    __slots__ = ("_cancelling", "_owner", "_reason", "_receive", "_register", "_watcher")

    def __init__(self, receive: Receive, register: "set[Presence]") -> None:
        self._receive = receive
        self._register = register
        self._reason: Exception | None = None

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._cancelling = owner.cancelling()
        self._watcher = asyncio.create_task(self._watch())
        self._register.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._register.discard(self)
        self._watcher.cancel()
        if self._reason is None or kind is not asyncio.CancelledError:
            return
        if self._owner.uncancel() <= self._cancelling:
            raise self._reason from None

    def interrupt(self, reason: ClientLeft | PileusError) -> None:
        """End the block with this error; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._owner.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientLeft())


class Present:
    """Who waits for an answer at this moment, by key, so that the streams of a key that is closed end."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[Presence]] = {}

    def of(self, key_id: str, receive: Receive) -> Presence:
        """A presence of this key's holder, to be entered at once."""
        register = self._by_key.get(key_id)
        if register is None:
            register = self._by_key[key_id] = set()
        return Presence(receive, register)

    def interrupt(self, key_id: str, reason: PileusError) -> None:
        """End all answers that are being made for a key."""
        for presence in tuple(self._by_key.pop(key_id, ())):
            presence.interrupt(reason)

    def interrupt_all(self, reason: PileusError) -> None:
        """End all answers."""
        for key_id in tuple(self._by_key):
            self.interrupt(key_id, reason)
