"""Who takes the connections: this process, or further gateway processes that forward to it."""

import asyncio
import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pileus.bootstrap.gateways import GatewayProcesses
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.api.server import ApiServer
    from pileus.config.settings import Settings
    from pileus.gateway.forwarding.owner import GatewayHub


class Front(Protocol):
    """Serves until it is stopped."""

    async def serve(self) -> None: ...

    async def opened(self) -> None:
        """Return once requests are taken."""

    def stop(self, *, at_once: bool) -> None:
        """Let what runs finish, within the drain, or not."""


class OwnFront:
    """This process takes them."""

    def __init__(self, server: "ApiServer", listening: socket.socket) -> None:
        self._server = server
        self._listening = listening

    async def serve(self) -> None:
        await self._server.serve([self._listening])

    async def opened(self) -> None:
        await self._server.listening.wait()

    def stop(self, *, at_once: bool) -> None:
        self._server.should_exit = True
        self._server.force_exit = at_once


class SharedFront:
    """Further processes take them; this one answers what they hand on, at a socket in `run_dir`. They ask for turns at
    the socket `scheduling`."""

    def __init__(
        self,
        settings: "Settings",
        server: "ApiServer",
        hub: "GatewayHub",
        listening: Sequence[socket.socket],
        scheduling: Path,
        run_dir: Path,
    ) -> None:
        self._server = server
        self._hub = hub
        self._count = len(listening)
        self._http = run_dir / "http.sock"
        self._processes = GatewayProcesses(settings, listening, scheduling, self._http)

    async def serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as http:
            http.bind(str(self._http))
            serving = asyncio.create_task(self._server.serve([http]))
            try:
                await self._server.listening.wait()
                await self._processes.run()
            finally:
                self._server.should_exit = True
                await serving

    async def opened(self) -> None:
        await self._hub.wait_open(self._count)

    def stop(self, *, at_once: bool) -> None:
        self._server.force_exit = at_once
        self._server.end_streams()  # those that gateways pass on end here
        if at_once:
            self._processes.kill()
        else:
            self._processes.stop()


@contextmanager
def listen(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """As many sockets, bound to one port; connections wait in them until somebody takes them. Raises `OperatorError`
    for a taken port."""
    with ExitStack() as stack:
        first = stack.enter_context(_bind(host, port, shared=False))
        if count == 1:
            yield [first]
            return
        # The kernel spreads connections over sockets that share a port. That the port is free, the first one showed.
        port = first.getsockname()[1]
        first.close()
        yield [stack.enter_context(_bind(host, port, shared=True)) for _ in range(count)]


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise OperatorError(f"port {port} of {host} is taken: stop what listens there, or choose --port") from None
        raise OperatorError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose --host and --port"
        ) from None
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
