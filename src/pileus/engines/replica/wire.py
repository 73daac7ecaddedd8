"""What a gateway and a replica say to each other: length-prefixed msgpack frames of typed records.

A frame is four bytes of length (big endian) and one msgpack array, whose first item tells its type. The replica
speaks first, with `Hello`. Every frame up carries the replica's epoch, so that what a stale process says is told from
what its successor says. A gateway takes its request ids from the range that `Hello` gives to its connection: so they
are unique on the engine, and a step of the engine goes out as it is, without renumbering.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.core.ports import AdapterSource
from pileus.core.records import (
    Capabilities,
    Credit,
    Emission,
    Encoded,
    EncodeRequest,
    EngineRequest,
    EngineStats,
    Finish,
    Started,
)

PROTOCOL = 3
MAX_FRAME_BYTES = 8 << 20
ID_BITS = 32  # of a request id that a gateway chooses; the bits above are its connection's number

_LENGTH = Layout(">I")
_PREFIX = bytes(_LENGTH.size)
_BUFFER_BYTES = 256 << 10
_MAX_PATH_BYTES = 107  # of a Unix socket's address on Linux, without the final zero


class WireError(Exception):
    """The other end said something that is not the protocol."""


# --- down: gateway -> replica ---------------------------------------------------------------------------------------


class Submit(Struct, frozen=True, array_like=True, tag=1):
    """Run this request. `epoch` is the replica's that the gateway believes it speaks to."""

    epoch: int
    request: EngineRequest


class Cancel(Struct, frozen=True, array_like=True, tag=2):
    """End the request, or one choice of it, before the next step."""

    request: int
    choice: int | None = None


class Adapter(Struct, frozen=True, array_like=True, tag=3):
    """Take requests for these adapters from now on, and none for those. Answered by `Adapted` with this number; what
    is said on one connection is done in its order."""

    number: int
    load: tuple[AdapterSource, ...] = ()
    unload: tuple[str, ...] = ()  # ids


class Encode(Struct, frozen=True, array_like=True, tag=4):
    """As `Submit`, for a replica whose capabilities say that it hosts an encoder."""

    epoch: int
    request: EncodeRequest


# --- up: replica -> gateway -----------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=16):
    """Who is speaking. Request ids on this connection are those above `first_id`, in rising order."""

    protocol: int
    epoch: int
    replica: str
    first_id: int
    capabilities: Capabilities
    credit: Credit


class Step(Struct, frozen=True, array_like=True, tag=17):
    """What one engine step produced for this gateway, in the order of `StepOutput`."""

    epoch: int
    started: tuple[Started, ...]
    emissions: tuple[Emission, ...]
    finishes: tuple[Finish, ...]
    credit: Credit
    encoded: tuple[Encoded, ...] = ()


class Grant(Struct, frozen=True, array_like=True, tag=18):
    """The credit changed, and this gateway has no part in the step that changed it."""

    epoch: int
    credit: Credit


class Stats(Struct, frozen=True, array_like=True, tag=19):
    """The engine's figures: twice a second, as a sign of life too; after a cancelled request; and when all is done."""

    epoch: int
    stats: EngineStats


class Lost(Struct, frozen=True, array_like=True, tag=20):
    """The replica does not run this request, or no longer; it may run elsewhere."""

    epoch: int
    request: int
    reason: str


class Drain(Struct, frozen=True, array_like=True, tag=21):
    """The replica takes nothing new, and ends when what it has is finished."""

    epoch: int


class Adapted(Struct, frozen=True, array_like=True, tag=22):
    """What an `Adapter` asked for is done, but for those that are refused: each with the reason."""

    epoch: int
    number: int
    refused: tuple[tuple[str, str], ...]  # id, reason


Down = Submit | Cancel | Adapter | Encode
Up = Hello | Step | Grant | Stats | Lost | Drain | Adapted

_encoder = msgspec.msgpack.Encoder()
decode_down = msgspec.msgpack.Decoder(Down).decode
decode_up = msgspec.msgpack.Decoder(Up).decode


def pack(frame: Struct) -> bytes:
    """One frame, ready to be sent; also of a protocol that is framed in the same way."""
    payload = _encoder.encode(frame)
    return _LENGTH.pack(len(payload)) + payload


def pack_into(frame: Down | Up, buffer: bytearray) -> None:
    """As `pack`, into a buffer that is used again for each frame."""
    buffer[: _LENGTH.size] = _PREFIX
    _encoder.encode_into(frame, buffer, _LENGTH.size)
    _LENGTH.pack_into(buffer, 0, len(buffer) - _LENGTH.size)


class FrameBuffer:
    """Cuts a stream of bytes into frames, without copying them.

    Receive into `room()`, then take `frames(received)`. A payload is a view that is valid until the next call.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._most = max_frame_bytes
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._start = 0
        self._end = 0

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._view[self._end :]

    def frames(self, received: int) -> Iterator[memoryview]:
        """The payloads that are complete with the `received` bytes. Raises `WireError` for one that is too large."""
        self._end += received
        missing = 1
        while self._end - self._start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._view, self._start)
            if length > self._most:
                raise WireError(f"a frame of {length} bytes; at most {self._most} are allowed")
            payload = self._start + _LENGTH.size
            if payload + length > self._end:
                missing = payload + length - self._end
                break
            self._start = payload + length
            yield self._view[payload : self._start]
        self._make_room(missing)

    def _make_room(self, missing: int) -> None:
        """Move what is left to the front when the end of the buffer is near, to a larger one if it must be."""
        held = self._end - self._start
        if held and len(self._view) - self._end >= missing:
            return
        if held:
            size = max(len(self._view), held + missing)
            target = self._view if size == len(self._view) else memoryview(bytearray(size))
            target[:held] = self._view[self._start : self._end]
            self._view = target
        self._start, self._end = 0, held


def socket_path(address: str) -> Path:
    """The file of a `unix:` address. Raises `OperatorError` for an address that cannot be listened on."""
    scheme, _, path = address.partition(":")
    if scheme != "unix" or not path.startswith("/"):
        raise OperatorError(f"a replica's address must be unix:/path, not {address!r}")
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise OperatorError(f"the socket path {path} is longer than {_MAX_PATH_BYTES} bytes: choose a shorter folder")
    return Path(path)
