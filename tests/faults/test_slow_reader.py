"""FAULTS 12: a client that asks for megabytes and does not read them. A real server, a bare socket."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import OpenAI

from acceptance.process import Server, running_server
from faults.test_replica_faults import eventually, replicas
from pileus.api.connection import WRITE_DEADLINE_S

CONFIG = """
[[deployment]]
name = "pair"
model = "fake"
engine = "fake"
options = { slots = 16 }
"""
MOST_MIB = 64.0


def rss_mib(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.fault(12, "a tiny receive buffer that is never read", "bounded buffer, cut at a deadline, others unharmed")
def test_a_reader_that_stops_is_cut_off_and_harms_nobody(tmp_path: Path, measured: Callable[[str], None]) -> None:
    """Some 20 MB of log probabilities."""
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(tmp_path, "--config", str(config)) as server:
        parts = urlsplit(server.base_url)
        before_mib = rss_mib(server)
        wish = {"model": "pair", "prompt": "a", "max_tokens": 4000, "n": 8, "logprobs": 5, "stream": True}
        body = json.dumps(wish | {"ignore_eos": True}).encode()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((parts.hostname, parts.port))
            slow.sendall(
                f"POST /v1/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {server.admin_key}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            eventually(lambda: replicas(server, "pair")[0]["running"] > 0)
            with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as openai:
                assert openai.completions.create(model="pair", prompt="a", max_tokens=5).usage
            eventually(lambda: state(slow) != "01", WRITE_DEADLINE_S + 15)
        eventually(lambda: replicas(server, "pair")[0]["running"] == 0)
        grown_mib = rss_mib(server) - before_mib
    measured(f"cut off; memory grew by {grown_mib:.0f} MiB")
    assert grown_mib < MOST_MIB


def state(connection: socket.socket) -> str:
    """As /proc/net/tcp tells it: 01 is established."""
    port = connection.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            return fields[3]
    return "gone"
