"""The further gateway processes of a server: started, kept running, and ended by the owner."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from msgspec import Struct

if TYPE_CHECKING:
    from pileus.config.settings import Settings

COMMAND = (sys.executable, "-m", "pileus", "gateway")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0
_STEADY_S = 10.0  # who ran so long did not fail at its start

log = structlog.get_logger(__name__)


class GatewaySpec(Struct, frozen=True, kw_only=True):
    """What `pileus gateway` reads from standard input, as JSON."""

    number: int
    settings: dict[str, Any]
    listening: int  # file descriptor of the socket
    scheduling: str  # paths of the owner's two sockets
    http: str


class GatewayProcesses:
    """One for each listening socket, which this process keeps: what connects while one is away waits for its
    successor."""

    def __init__(self, settings: "Settings", sockets: Sequence[socket.socket], scheduling: Path, http: Path) -> None:
        self._settings = settings.model_dump(mode="json")
        self._sockets = sockets
        self._scheduling = scheduling
        self._http = http
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep all running until `stop`; returns when they have ended."""
        await asyncio.gather(*(self._keep(number) for number in range(len(self._sockets))))

    def stop(self) -> None:
        """Ask them to finish what they have, and to end."""
        self._stopping.set()
        for number, process in self._running.items():
            self._end(number, process)

    def kill(self) -> None:
        """Make them end."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        wait_s = _FIRST_WAIT_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            try:
                status: int | str = await self._live(number)
            except OSError as error:  # no process, or no file, is to be had at present
                status = error.strerror or str(error)
            if self._stopping.is_set():
                return
            log.error("gateway_process_ended", gateway=number, status=status)
            wait_s = _FIRST_WAIT_S if loop.time() - began > _STEADY_S else min(2 * wait_s, _LONGEST_WAIT_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _live(self, number: int) -> int:
        """One life of a gateway process; its exit status."""
        process = self._running[number] = await self._start(number)
        if self._stopping.is_set():  # it was asked for while this one began
            self._end(number, process)
        status = await process.wait()
        del self._running[number]
        return status

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        descriptor = self._sockets[number].fileno()
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=asyncio.subprocess.PIPE, pass_fds=(descriptor,), start_new_session=True
        )
        assert process.stdin
        spec = GatewaySpec(
            number=number,
            settings=self._settings,
            listening=descriptor,
            scheduling=str(self._scheduling),
            http=str(self._http),
        )
        process.stdin.write(msgspec.json.encode(spec))
        process.stdin.close()
        log.info("gateway_process_started", gateway=number, pid=process.pid)
        return process

    def _end(self, number: int, process: asyncio.subprocess.Process) -> None:
        """It takes nothing new; and nobody else does, so that who connects now is refused and does not wait."""
        self._sockets[number].close()
        _kill(process, signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running.values():
            _kill(process, number)


def _kill(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
