"""FAULTS 13 and 28: the server is killed with live streams, and runs out of file descriptors. Real processes."""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import APIConnectionError, APIError, APIStatusError, OpenAI

from acceptance.process import Server, running_server, started
from acceptance.process import greeting as wait_for_greeting
from pileus.api.connection import SPARE_FILES

CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
replicas = 2
options = { step_s = 0.01 }
"""


@pytest.fixture
def arguments(tmp_path: Path) -> tuple[str, ...]:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    return ("--config", str(config))


def eventually(condition: Callable[[], bool], within_s: float) -> None:
    """Ask until it is so: what happens in other processes gives no event to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def ask(server: Server, max_tokens: int = 2, timeout_s: float = 5.0) -> str:
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0, timeout=timeout_s) as client:
        answer = client.completions.create(model="fake", prompt="clouds", seed=7, max_tokens=max_tokens)
        return answer.choices[0].text


def admin(server: Server, path: str, key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key or server.admin_key}"}
    return httpx.get(f"{server.base_url}/admin/v1/{path}", headers=headers, trust_env=False).json()


def used_tokens(server: Server, key: str = "") -> int:
    return sum(int(each["used_tokens"]) for each in admin(server, "keys", key)["data"])


def running_requests(server: Server) -> int:
    return sum(int(replica["running"]) for replica in admin(server, "status")["deployments"][0]["replicas"])


@contextmanager
def idle_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing; those that the server does not take are left out."""
    parts = urlsplit(server.base_url)
    with ExitStack() as stack:
        held = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(2)
            try:
                connection.connect((parts.hostname, parts.port))
            except OSError:
                continue
            held.append(connection)
        yield held


@contextmanager
def few_files(pid: int, spare: int) -> Iterator[None]:
    """The process may open so many files more, and no others."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = len(list(Path(f"/proc/{pid}/fd").iterdir())) + spare
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def lives(pid: int) -> bool:
    """Whether the process runs: one that has ended may wait for ever for a parent that asks how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.fault(13, "SIGKILL of the server under 8 requests", "replicas gone within 1 s; the ledger is right")
def test_13_a_killed_server_frees_its_replicas_and_bills_nothing_that_was_not_delivered(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        log = tmp_path / "server.log"
        stderr = stack.enter_context(log.open("w"))
        process = stack.enter_context(started(tmp_path, *arguments, stderr=stderr))
        server = Server(process, tmp_path, wait_for_greeting(process, log))
        key, text = server.admin_key, ask(server)
        eventually(lambda: used_tokens(server) > 0, 10)
        billed, replicas = used_tokens(server), server.children()
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, server, 4000, 60.0) for _ in range(8)]
            eventually(lambda: running_requests(server) == 8, 10)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            eventually(lambda: not any(map(lives, replicas)), 1)
            for future in answers:
                assert isinstance(future.exception(), APIConnectionError)
    with running_server(tmp_path, *arguments) as again:
        client = OpenAI(base_url=f"{again.base_url}/v1", api_key=key, max_retries=0)
        assert client.completions.create(model="fake", prompt="clouds", seed=7, max_tokens=2).choices[0].text == text
        # What was written down, each second, is there; what was not is lost in the favour of whoever asked.
        assert used_tokens(again, key) in (billed, 2 * billed)


@pytest.mark.fault(28, "prlimit: 8 files to spare, 24 connections", "503, no crash, recovers")
def test_28_a_server_without_file_descriptors_says_so_and_recovers(
    tmp_path: Path, arguments: tuple[str, ...], measured: Callable[[str], None]
) -> None:
    with running_server(tmp_path, *arguments) as server:
        ask(server)
        with few_files(server.process.pid, spare=8 + SPARE_FILES), idle_connections(server, 24):
            begun_s = time.monotonic()
            with pytest.raises(APIStatusError) as refused:
                ask(server)
            measured(f"{refused.value.status_code} after {(time.monotonic() - begun_s) * 1e3:.0f} ms; then an answer")
            assert refused.value.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
            assert server.process.poll() is None
        ask(server)


@pytest.mark.fault(28, "prlimit: no file to spare, 80 connections", "no crash, soon an end, recovers")
def test_28_a_server_that_cannot_even_say_so_lives_and_recovers(
    tmp_path: Path, arguments: tuple[str, ...], measured: Callable[[str], None]
) -> None:
    with running_server(tmp_path, *arguments) as server:
        ask(server)
        with few_files(server.process.pid, spare=0), idle_connections(server, 80):
            begun_s = time.monotonic()
            with pytest.raises(APIError):
                ask(server)
            took_s = time.monotonic() - begun_s
            measured(f"closed out after {took_s * 1e3:.0f} ms; then an answer again")
            assert took_s < 10
            assert server.process.poll() is None
        ask(server)


@pytest.mark.slow
@pytest.mark.fault(28, "10,000 idle connections", "nobody is disturbed")
def test_28_ten_thousand_idle_connections_disturb_nobody(
    tmp_path: Path, arguments: tuple[str, ...], measured: Callable[[str], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_500:
        pytest.skip(f"10,500 open files are needed, {hard} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10_500), hard))
    with running_server(tmp_path, *arguments) as server:
        ask(server)
        with idle_connections(server, 10_000) as held:
            assert len(held) == 10_000
            begun_s = time.monotonic()
            ask(server)
            took_s = time.monotonic() - begun_s
            measured(f"an answer after {took_s * 1e3:.0f} ms beside {len(held):,} connections")
            assert took_s < 2
        ask(server)
