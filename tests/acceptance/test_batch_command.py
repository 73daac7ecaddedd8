"""`pileus batch run`: on a running server, and with one of its own."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from acceptance.files_server import files_server
from acceptance.process import environment, pileus

LINES = 400
SLOW = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
options = { slots = 8, step_s = 0.01 }
"""


def asking(path: Path, count: int, **wrong: dict[str, object]) -> Path:
    """A batch's input; `wrong` changes lines, which are named `line1` and so on."""
    lines = []
    for number in range(1, count + 1):
        body = {"model": "fake", "max_tokens": 8, "messages": [{"role": "user", "content": f"Say {number}."}]}
        line = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(line | wrong.get(f"line{number}", {})) + "\n")
    path.write_text("".join(lines))
    return path


def ids(results: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in results.read_text().splitlines()]


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = monotonic() + within_s
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pileus.toml"
    path.write_text(SLOW)
    return path


def test_a_file_runs_with_a_server_of_its_own_and_nothing_is_left_running(tmp_path: Path, config: Path) -> None:
    asked = asking(tmp_path / "asked.jsonl", 20)
    home = ("--data", str(tmp_path / "data"), "--config", str(config))
    done = pileus("batch", "run", str(asked), *home)
    assert done.returncode == 0, done.stderr
    assert ids(tmp_path / "asked.results.jsonl") == [f"c{number}" for number in range(1, 21)]
    again = pileus("batch", "run", str(asked), *home)
    assert "has this file already: it is completed" in again.stderr
    keys = json.loads(pileus("keys", "list", "--json", *home).stdout)
    assert [key["name"] for key in keys if key["revoked_at"] is None] == []  # nobody owns the folder, no key is open


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, config: Path) -> None:
    asked = asking(tmp_path / "asked.jsonl", LINES)
    home = ("--data", str(tmp_path / "data"), "--config", str(config))
    config.write_text(SLOW.replace("step_s = 0.01", "step_s = 0.1"))  # it does not end before it is interrupted
    command = [sys.executable, "-m", "pileus", "batch", "run", str(asked), *home]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment()) as process:
        journals = tmp_path / "data" / "jobs"
        eventually(lambda: any(path.stat().st_size for path in journals.glob("*/results.*")))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    before = sum(path.read_bytes().count(b"\n") for path in journals.glob("*/results.*"))
    assert 0 < before < LINES
    config.write_text(SLOW)
    done = pileus("batch", "run", str(asked), *home)
    assert done.returncode == 0, done.stderr
    assert "has this file already: it is in_progress" in done.stderr
    assert ids(tmp_path / "asked.results.jsonl") == [f"c{number}" for number in range(1, LINES + 1)]
    after = sum(path.read_bytes().count(b"\n") for path in journals.glob("*/results.*"))
    assert after == LINES  # what was done before was not done again


def test_a_table_is_asked_row_by_row_on_a_running_server(tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text('text,stars\n"I love it, really.",5\nBroken.,1\n')
    with files_server(tmp_path, config=SLOW) as server:
        known = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
        done = pileus("batch", "run", str(table), "-m", "fake", "-t", "{stars}: {text}", "--option", "n=1", **known)
        assert done.returncode == 0, done.stderr
        [batch] = json.loads(pileus("batch", "list", "--json", **known).stdout)
        assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 2)
    with (tmp_path / "reviews.results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["I love it, really.", "Broken."]
    assert all(row["answer"] for row in rows)


def test_lines_that_are_wrong_are_named_and_nothing_runs(tmp_path: Path, config: Path) -> None:
    asked = asking(tmp_path / "asked.jsonl", 30, line12={"custom_id": "c3"}, line29={"url": "/v1/classify"})
    done = pileus("batch", "run", str(asked), "--data", str(tmp_path / "data"), "--config", str(config))
    assert done.returncode == 1
    assert "line 12: " in done.stderr
    assert "line 29: " in done.stderr
    assert not (tmp_path / "asked.results.jsonl").exists()


def test_a_line_that_fails_is_told_apart_and_in_the_exit_status(tmp_path: Path, config: Path) -> None:
    too_long = {"model": "fake", "max_tokens": 10**6, "messages": [{"role": "user", "content": "x"}]}
    asked = asking(tmp_path / "asked.jsonl", 5, line2={"body": too_long})
    done = pileus("batch", "run", str(asked), "--data", str(tmp_path / "data"), "--config", str(config))
    assert done.returncode == 1
    assert "4 of 5 answered" in done.stderr
    assert ids(tmp_path / "asked.results.jsonl") == ["c1", "c3", "c4", "c5"]
    assert ids(tmp_path / "asked.results.errors.jsonl") == ["c2"]
