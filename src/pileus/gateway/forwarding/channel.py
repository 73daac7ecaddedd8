"""One end of a connection between two processes of one server."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
import structlog
from msgspec import Struct

from pileus.engines.replica.wire import MAX_FRAME_BYTES, FrameBuffer, WireError, pack

log = structlog.get_logger(__name__)

_MOST_UNSENT_BYTES = 64 << 20  # who reads so little is lost

Frame_contra = TypeVar("Frame_contra", contravariant=True)


class Listener(Protocol[Frame_contra]):
    """Hears what the other end says."""

    def on_connected(self) -> None:
        """From now on `send` is heard."""

    def on_frame(self, frame: Frame_contra) -> None: ...

    def on_gone(self, reason: str) -> None:
        """The connection is over; nothing follows."""


class Channel(asyncio.BufferedProtocol, Generic[Frame_contra]):
    """Belongs to the event loop's thread. `send` after the end is a no-op."""

    def __init__(self, decode: Callable[[memoryview], Any], max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._decode = decode
        self._inbox = FrameBuffer(max_frame_bytes)
        self._most_unsent = max(_MOST_UNSENT_BYTES, 2 * max_frame_bytes)
        self._flows = asyncio.Event()  # while little is unsent
        self._flows.set()
        self._transport: asyncio.Transport | None = None
        self._listener: Listener[Frame_contra] | None = None
        self._reason = "the other process closed the connection"

    def listen(self, listener: Listener[Frame_contra]) -> None:
        """To be called before it is connected."""
        self._listener = listener

    def send(self, frame: Struct) -> None:
        if self._transport is None:
            return
        self._transport.write(pack(frame))
        if self._transport.get_write_buffer_size() > self._most_unsent:
            self.close("it does not read")

    async def flows(self) -> None:
        """Return when little is unsent, or at the end of the connection. Who has much to say waits for that, or is
        taken for one whose other end does not read."""
        while not self._flows.is_set():
            await self._flows.wait()

    def finish(self) -> None:
        """Close it once what was sent has gone."""
        if self._transport is not None:
            self._transport.close()

    def close(self, reason: str) -> None:
        if self._transport is not None:
            self._reason = reason
            self._transport.abort()

    # --- asyncio.BufferedProtocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._listener is not None
        self._transport = cast(asyncio.Transport, transport)
        self._listener.on_connected()

    def pause_writing(self) -> None:
        self._flows.clear()

    def resume_writing(self) -> None:
        self._flows.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        assert self._listener is not None
        try:
            for payload in self._inbox.frames(nbytes):
                self._listener.on_frame(self._decode(payload))
        except (WireError, msgspec.MsgspecError) as error:
            log.error("malformed_frame", error=str(error))
            self.close(f"malformed frame: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._flows.set()
        if self._listener is not None:
            self._listener.on_gone(str(exc) if exc else self._reason)
