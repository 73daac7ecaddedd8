"""What harms a connection on its way: a proxy that delays, swallows or resets, before a Unix socket or a TCP port.

It stands where a network would. What TCP makes of lost packets, it shows as TCP shows it: as delay, and in order.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from struct import unpack

from msgspec.structs import replace

from pileus.core.ports import ReplicaCommand, ReplicaHandle, ReplicaStarter
from pileus.engines.replica.wire import socket_path

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Ends]]
Read = Callable[[asyncio.StreamReader], Awaitable[bytes]]

_RETRANSMIT_S = 0.2  # Linux sends a lost packet again after this, at the earliest
_DIAL_POLL_S = 0.02


class Delay:
    """Seconds between a byte's coming and its going, each way."""

    def __init__(self, seconds: float, jitter_s: float, loss: float, seed: int) -> None:
        self._seconds, self._jitter_s, self._loss = seconds, jitter_s, loss
        self._random = random.Random(seed)

    def draw(self) -> float:
        seconds = self._seconds + self._jitter_s * self._random.uniform(-1, 1)
        while self._random.random() < self._loss:
            seconds += _RETRANSMIT_S
        return seconds


async def read_bytes(reader: asyncio.StreamReader) -> bytes:
    return await reader.read(65536)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """A whole frame of the replica's wire."""
    try:
        head = await reader.readexactly(4)
        return head + await reader.readexactly(unpack(">I", head)[0])
    except asyncio.IncompleteReadError:
        return b""


class Proxy:
    """Between whoever connects and `dial`. `swallowed` is what the far end said while the wire was cut."""

    def __init__(self, dial: Dial, read: Read = read_bytes, delay: Delay | None = None) -> None:
        self.swallowed: list[bytes] = []
        self._dial, self._read, self._delay = dial, read, delay
        self._cut = False
        self._near: list[asyncio.StreamWriter] = []
        self._far: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._listen: Callable[[], Awaitable[asyncio.Server]]
        self._meetings: set[asyncio.Task[None]] = set()

    async def listen_unix(self, path: Path) -> None:
        self._listen = lambda: asyncio.start_unix_server(self._meet, path)
        await self.restore()

    async def listen_tcp(self) -> int:
        """The port."""
        self._listen = lambda: asyncio.start_server(self._meet, "127.0.0.1", 0)
        await self.restore()
        assert self._server
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """A partition that drops: from now on nothing arrives, neither way, nor that an end has closed."""
        self._cut = True

    def reject(self) -> None:
        """A partition that rejects: connections are reset, and new ones refused, until `restore`."""
        assert self._server
        self._server.close()
        for writer in (*self._near, *self._far):
            writer.transport.abort()

    async def restore(self) -> None:
        self._server = await self._listen()

    def say(self, frames: list[bytes]) -> None:
        """To whoever is connected, as if the far end said it."""
        self._near[-1].write(b"".join(frames))

    async def close(self) -> None:
        self.reject()
        for meeting in self._meetings:
            meeting.cancel()
        await asyncio.gather(*self._meetings, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._meetings.add(task)
        self._near.append(writer)
        with suppress(ConnectionError, asyncio.CancelledError):
            far_reader, far_writer = await self._dial()
            self._far.append(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer))
                both.create_task(self._pump(far_reader, writer, keep=self.swallowed))
        self._meetings.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: list[bytes] | None = None
    ) -> None:
        """Until an end; the other is then closed, unless it is beyond a cut."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(queue, writer))
        due_s, data = 0.0, b"?"
        while data:
            try:
                data = await self._read(reader)
            except ConnectionError:
                data = b""
            if self._cut:
                if keep is not None:
                    keep.append(data)
                continue
            due_s = max(due_s, loop.time() + (self._delay.draw() if self._delay else 0.0))
            queue.put_nowait((due_s, data))
        if self._cut:
            sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending

    async def _send(self, queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await queue.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if self._cut:
                continue
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()


class ProxiedStarter:
    """Meets `ReplicaStarter`: a proxy on the wire of each replica that another starter starts. By replica, `wires` is
    that of its present life."""

    def __init__(self, starter: ReplicaStarter, delay: Delay | None = None) -> None:
        self.wires: dict[str, Proxy] = {}
        self._starter = starter
        self._delay = delay
        self._all: list[Proxy] = []

    async def start(self, command: ReplicaCommand) -> ReplicaHandle:
        inner = Path(f"{socket_path(command.address)}.r")
        proxy = Proxy(lambda: dial_unix(inner), read_frame, self._delay)
        await proxy.listen_unix(socket_path(command.address))
        self._all.append(proxy)
        self.wires[command.replica] = proxy
        return await self._starter.start(replace(command, address=f"unix:{inner}"))

    async def close(self) -> None:
        for proxy in self._all:
            await proxy.close()


async def dial_unix(path: Path) -> Ends:
    """Once somebody listens there."""
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(_DIAL_POLL_S)


@asynccontextmanager
async def before_port(port: int, delay: Delay) -> AsyncIterator[int]:
    """The port of a proxy before another."""
    proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", port), delay=delay)
    try:
        yield await proxy.listen_tcp()
    finally:
        await proxy.close()
