"""uvicorn, set up for this application. Bootstrap runs it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from pileus.api.connection import BoundedConnection
from pileus.config.settings import Server

KEEP_ALIVE_S = 75


class ApiServer(uvicorn.Server):
    """Says when it listens, and tells endless streams to end before it waits for connections to close."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are bootstrap's: it stops more than this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.closing.set()
        await super().shutdown(sockets)


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
        timeout_graceful_shutdown=round(settings.drain_s),
        backlog=4096,
    )
    return ApiServer(app, config)
