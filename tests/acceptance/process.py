"""The `pileus` command as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

START_LIMIT_S = 180.0  # a first start on a busy machine
STOP_LIMIT_S = 60.0
COMMAND_LIMIT_S = 300.0  # with a server of its own, on a machine that has other work

_LAST_LINE = "Ctrl-C stops it."


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[str]
    data: Path
    greeting: str

    @property
    def base_url(self) -> str:
        return self._after("  API").removesuffix("/v1")

    @property
    def admin_key(self) -> str:
        return self._after("  export PILEUS_API_KEY=")

    def _after(self, start: str) -> str:
        [line] = [line for line in self.greeting.splitlines() if line.startswith(start)]
        return line.removeprefix(start).strip()

    def children(self) -> list[int]:
        """Processes that it started and that run now."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def replicas(self) -> list[int]:
        """Those of its children that host an engine."""
        return [child for child in self.children() if "worker" in _command(child)]

    def interrupt(self) -> int:
        """Ctrl-C, and its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_LIMIT_S)


def _command(pid: int) -> list[str]:
    """Its arguments; none where it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would configure Pileus."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PILEUS_")} | variables


def pileus(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "pileus", *arguments]
    return subprocess.run(
        command,
        input=stdin,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )


@contextmanager
def running_server(data: Path, *arguments: str, **variables: str) -> Iterator[Server]:
    """`pileus up` until it greets; ended by Ctrl-C, which must leave nothing behind."""
    log = data / "server.log"
    with log.open("w") as stderr, started(data, *arguments, stderr=stderr, **variables) as process:
        server = Server(process, data, greeting(process, log))
        children = set(server.children())
        yield server
        if process.poll() is None:
            children.update(server.children())
            server.interrupt()
        assert process.returncode == 0, log.read_text()
        left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert not left, f"processes {left} outlived the server"


@contextmanager
def started(data: Path, *arguments: str, stderr: IO[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`pileus up` on a free port; killed at the end if it still runs."""
    command = [sys.executable, "-m", "pileus", "up", "--no-browser", "--port", "0", "--data", str(data), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment(**variables),
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stopped, as if its machine were."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def greeting(process: subprocess.Popen[str], log: Path) -> str:
    """What it prints once it is ready."""
    assert process.stdout is not None
    lines: list[str] = []
    watchdog = Timer(START_LIMIT_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if line.strip() == _LAST_LINE:
                return "".join(lines)
    finally:
        watchdog.cancel()
    raise AssertionError(f"pileus up ended before it was ready:\n{log.read_text()}")
