"""A server that a command starts for itself, seen from the command."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pileus.bootstrap.alone import _reserved_port, serve_alone
from pileus.bootstrap.front import listen
from pileus.bootstrap.local import open_keyring
from pileus.config.load import load_settings
from pileus.core.errors import OperatorError
from pileus.models.progress import silent

PATIENCE_S = 30.0
WAITS = """
import signal, sys, time
from pathlib import Path

from pileus.bootstrap.alone import serve_alone
from pileus.config.load import load_settings

def tell(stage, done, total):
    print(stage, flush=True)

if "ignores" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with serve_alone(load_settings(None, {}, {"data_dir": Path(sys.argv[1])}), None, tell, role="admin", deploys=False):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


def children() -> list[int]:
    """Processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def kill(pid: int) -> None:
    """Return once it is over."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # who started it hears of that too


def run(data_dir: Path, command: Callable[[], None]) -> None:
    """As a command does that asks a server of its own, and fails."""
    loaded = load_settings(None, {}, {"data_dir": data_dir})
    with serve_alone(loaded, None, silent, deploys=False):
        command()
        raise OperatorError("it went wrong")


def test_a_command_whose_server_died_says_so_with_its_last_lines(tmp_path: Path) -> None:
    before = set(children())

    def lose_the_server() -> None:
        (server,) = set(children()) - before
        kill(server)

    with pytest.raises(OperatorError, match=r"^the server ended \(-9\)"):
        run(tmp_path, lose_the_server)


def test_what_a_command_says_of_itself_stays_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"^it went wrong$"):
        run(tmp_path, lambda: None)


@pytest.mark.parametrize(("stage", "how"), [("ready", "hears"), ("starting", "ignores")])
def test_sigterm_ends_the_command_as_ctrl_c_does_and_closes_its_key(tmp_path: Path, stage: str, how: str) -> None:
    """Also one that was begun in the background, where Ctrl-C is ignored, and whose server does not listen yet."""
    command = [sys.executable, "-c", WAITS, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != f"{stage}\n":
            assert process.poll() is None
        process.terminate()
        try:
            assert process.wait(PATIENCE_S) != -signal.SIGTERM
        finally:
            process.kill()
    loaded = load_settings(None, {}, {"data_dir": tmp_path})
    with open_keyring(loaded.settings) as keyring:
        assert all(key["revoked_at"] for key in keyring.list())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a port cannot be held for another process")
def test_the_port_that_a_server_will_have_is_nobody_elses_until_then() -> None:
    with _reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with listen("127.0.0.1", port, 1) as [server]:
            server.listen()
            with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
                pass
