"""The largest input that a batch may have: what it costs the server, and what a mistake deep inside it is told as."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types import Batch

from acceptance.files_server import client_of, files_server
from acceptance.process import Server

MIB = 1024 * 1024
LINES, BYTES = 50_000, 200 * MIB
BAD = 41_000
QUICK = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
options = { slots = 256, kv_blocks = 65536, max_context = 8192 }
"""


def large_input(path: Path, *, bad: int | None = None) -> Path:
    """As many lines and about as many bytes as there may be."""
    filler = "x" * (BYTES // LINES - 240)
    with path.open("w") as file:
        for number in range(1, LINES + 1):
            body = {"model": "fake", "max_tokens": 1, "messages": [{"role": "user", "content": f"{number} {filler}"}]}
            line = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n" if number != bad else "{no JSON\n")
    assert 0.95 * BYTES < path.stat().st_size <= BYTES
    return path


def peak_mib(server: Server) -> float:
    """The most that the server's own process has had in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Server]:
    with files_server(tmp_path, config=QUICK) as server:
        yield server


def ended(client: OpenAI, path: Path) -> Batch:
    stored = client.files.create(file=path, purpose="batch")
    batch = client.batches.create(input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_bad_line_deep_in_a_file_of_200_mb_is_named_before_anything_runs(tmp_path: Path, quick: Server) -> None:
    path = large_input(tmp_path / "large.jsonl", bad=BAD)
    with client_of(quick) as client:
        before = peak_mib(quick)
        batch = ended(client, path)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [error.line for error in batch.errors.data] == [BAD]
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 0
        assert peak_mib(quick) - before < 50


@pytest.mark.slow
def test_50_000_lines_of_200_mb_run_in_bounded_memory(tmp_path: Path, quick: Server) -> None:
    path = large_input(tmp_path / "large.jsonl")
    with client_of(quick) as client:
        before = peak_mib(quick)
        batch = ended(client, path)
        grown = peak_mib(quick) - before
        assert batch.status == "completed"
        assert batch.output_file_id is not None
        with client.files.with_streaming_response.content(batch.output_file_id) as output:
            ids = [json.loads(line)["custom_id"] for line in output.iter_lines()]
    assert ids == [f"c{number}" for number in range(1, LINES + 1)]
    print(f"grown by {grown:.1f} MiB")
    assert grown < 50
