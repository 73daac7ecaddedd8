"""A server for one command: started for it on a free port of this machine, and ended with it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

import httpx

from pileus.bootstrap import FAKE_MODELS
from pileus.bootstrap.local import check, open_catalogue, open_keyring, own
from pileus.core.errors import OperatorError
from pileus.models.progress import Progress

if TYPE_CHECKING:
    from pileus.config.load import Loaded
    from pileus.config.settings import Settings

_READY_S = 600.0
_LOOK_S = 0.05
_ENDING_S = 0.5
_LAST_LINES = 5
_HOST = "127.0.0.1"
_KEY_NAME = "command with a server of its own"
_NOTHING: Mapping[str, str] = MappingProxyType({})


@contextmanager
def serve_alone(
    loaded: "Loaded",
    config: Path | None,
    progress: Progress,
    *,
    role: str = "user",
    deploys: bool = True,
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[tuple[str, str]]:
    """The server's URL and a key for it, which is closed in the end, or later where it has jobs that go on later.
    `environment` has settings for it besides. Without any deployment where it is not to deploy: for jobs that ask no
    model. Meanwhile SIGTERM is as Ctrl-C, so that the key is closed and the job rests whatever ends the command. Raises
    `OperatorError` where another process owns the data folder, or the server does not start."""
    check(loaded)
    settings = loaded.settings
    for deployment in settings.deployment if deploys else ():
        if deployment.model not in FAKE_MODELS:
            open_catalogue(settings).ensure(deployment.model, progress)
    with open_keyring(settings) as keyring:
        key = keyring.create({"name": _KEY_NAME, "role": role})
    try:
        with tempfile.TemporaryFile() as log, _heard_signals(), _reserved_port() as port:
            url = f"http://{_HOST}:{port}"
            process = _start(url, settings.data_dir, config, log.fileno(), environment, deploys=deploys)
            try:
                progress("starting", 0, 0)
                _wait_ready(process, url, log)
                yield url, key["secret"]
            except OperatorError as error:
                if not _has_ended(process):
                    raise
                raise OperatorError(_told_last(f"the server ended ({process.returncode})", log)) from error
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()
    finally:
        _close_keys(settings)


@contextmanager
def _heard_signals() -> Iterator[None]:
    """SIGTERM is as Ctrl-C. Where that is ignored, as in the background, it stays so here, but not in the server, which
    is ended by it however young it is: what has a handler here has its default action there."""
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, signal.default_int_handler)}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close_keys(settings: "Settings") -> None:
    """Those that were made here, but for those whose jobs have not ended: a job ends with its key."""
    from pileus.store.job_table import ENDED, JobState, JobTable

    unfinished = [state for state in JobState if state not in ENDED]
    with own(settings) as (store, security):
        busy = {job.key_id for job in store.read_blocking(lambda tx: JobTable().in_state(tx, unfinished))}
        for entry in tuple(security.keys.ring):
            if entry.key.name == _KEY_NAME and entry.key.id not in busy and entry.key.revoked_at is None:
                asyncio.run(security.keys.revoke(entry.key.id))


def _start(
    url: str, data_dir: Path, config: Path | None, log: int, environment: Mapping[str, str], *, deploys: bool
) -> "subprocess.Popen[bytes]":
    """It leads a group of its own, so that a Ctrl-C in the terminal reaches the command alone."""
    arguments = ["--host", _HOST, "--port", url.rpartition(":")[2], "--data", str(data_dir), "--with-parent"]
    if not deploys:
        arguments.append("--jobs-only")
    if config is not None:
        arguments += ["--config", str(config)]
    return subprocess.Popen(  # noqa: S603  # this program
        [sys.executable, "-m", "pileus", "serve", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=os.environ | environment | {"PILEUS_SERVER__GATEWAYS": "1"},
        start_new_session=True,
    )


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(_LOOK_S)
    raise OperatorError(_told_last("the server did not start", log))


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it is why a command failed: a connection may break a little before its process is gone."""
    try:
        process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _told_last(what: str, log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return f"{what}:\n" + "\n".join(lines[-_LAST_LINES:])


@contextmanager
def _reserved_port() -> Iterator[int]:
    """One that is free, and that nobody is given meanwhile who takes any. Since nobody listens at it, Linux lets the
    server have it which names it."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((_HOST, 0))
        port: int = free.getsockname()[1]
        if not sys.platform.startswith("linux"):
            free.close()
        yield port
