"""The way out to one gateway: never blocks, and holds a bounded number of bytes."""

import socket


class Overflow(Exception):
    """The gateway reads too slowly; what it has missed is too much to hold."""


class Outbox:
    """Sends at once what the socket takes, and holds the rest until `flush`. Not thread-safe by itself."""

    def __init__(self, connection: socket.socket, limit_bytes: int) -> None:
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def send(self, frame: bytes | bytearray) -> None:
        """Raises `Overflow` when too much is held, and `OSError` when the connection is gone."""
        rest = memoryview(frame)
        if not self._held:
            rest = rest[self._push(rest) :]
        if len(self._held) + len(rest) > self._limit_bytes:
            raise Overflow(f"it left {len(self._held)} bytes unread")
        self._held += rest

    def flush(self) -> None:
        """Send of what is held as much as the socket takes. Raises `OSError` when the connection is gone."""
        del self._held[: self._push(self._held)]

    def _push(self, data: bytearray | memoryview) -> int:
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
