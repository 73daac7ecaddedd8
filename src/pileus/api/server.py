"""uvicorn, set up for this application. Bootstrap runs it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import uvicorn
from fastapi import FastAPI

from pileus.api.connection import BoundedConnection
from pileus.config.settings import Server
from pileus.core.errors import Unavailable

KEEP_ALIVE_S = 75
_LAST_WORDS_S = 1  # for errors to be sent after the drain
_RETRY_S = 5.0


class ApiServer(uvicorn.Server):
    """Says when it listens, and tells endless streams to end before it waits for connections to close. Answers that
    take longer than the drain end with an error that says so, before uvicorn would cut them off."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are bootstrap's: it stops more than this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    def end_streams(self) -> None:
        """Tell streams that have no end by themselves."""
        self._app.state.closing.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.end_streams()
        stopping = Unavailable("The server is stopping, and this answer took too long.", retry_after_s=_RETRY_S)
        end = asyncio.get_running_loop().call_later(self._drain_s, self._app.state.present.interrupt_all, stopping)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()


def create_server(app: FastAPI, settings: Server) -> ApiServer:
    """A server that listens where the settings say; running requests get `drain_s` to finish after a stop."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ceil(settings.drain_s) + _LAST_WORDS_S,
        backlog=4096,
    )
    return ApiServer(app, config, settings.drain_s)
