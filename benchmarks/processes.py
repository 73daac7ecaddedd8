"""Processes under measurement: start, pin to cores, pause while others have their turn, look at, stop.

Linux only, through /proc. A process here means the whole tree of it, for servers put their workers into sessions and
process groups of their own.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO


class StartError(Exception):
    """A process under measurement did not come up, or went away."""


class Process:
    """A running tree of processes, and the log that it writes."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self._popen = popen
        self._log = log
        self.pid = popen.pid

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Standard input and output of a process that was started with pipes."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        return self._popen.stdin, self._popen.stdout

    def check(self) -> None:
        """Raise `StartError` with the end of the log if it is gone."""
        if self._popen.poll() is not None:
            raise StartError(f"ended with status {self._popen.returncode}: {self.log_tail()}")

    def log_tail(self, lines: int = 5) -> str:
        return " | ".join(self._log.read_text(errors="replace").split("\n")[-lines - 1 :]).strip(" |")

    def tree(self) -> list[int]:
        """Its process ids, its own first."""
        found = [self.pid]
        for pid in found:
            with suppress(OSError):
                found.extend(int(child) for child in _children(pid))
        return found

    def pause(self) -> None:
        """Take it off the processor: an idle server that spins or keeps house must not disturb the one measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self, grace_s: float = 15) -> None:
        """Ask it to end, then make it."""
        if self._popen.poll() is not None:
            return
        tree = self.tree()
        self.resume()
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_s)
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.tree():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Family(ExitStack):
    """Starts processes, and stops all of them when it is left, whatever happened."""

    def start(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        cores: Iterable[int] | None = None,
        pipes: bool = False,
    ) -> Process:
        """Start a process in a session of its own, its output in `log`; `environ` replaces the environment."""
        log.parent.mkdir(parents=True, exist_ok=True)
        # A child inherits its cores, and so do all its threads from their first moment.
        with on_cores(cores or os.sched_getaffinity(0)), log.open("wb") as out:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                env=environ,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.callback(process.stop)
        return process


async def wait_until_open(process: Process, port: int, timeout_s: float) -> None:
    """Wait for the port to answer a connection."""
    async with asyncio.timeout(timeout_s):
        while True:
            process.check()
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, to `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pid: int, cores: Iterable[int]) -> None:
    """Move every thread of a running process to `cores`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def rss_mib(pid: int) -> float:
    """Resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise StartError(f"process {pid} has no memory: it has ended")


def cpu_s(pid: int) -> float:
    """Processor time that one process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _children(pid: int) -> list[str]:
    return [
        child for thread in Path(f"/proc/{pid}/task").iterdir() for child in (thread / "children").read_text().split()
    ]
