"""`pileus up` as a person meets it: the greeting, the second start, the ways in which it cannot start, Ctrl-C."""

import http.server
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openai import OpenAI

from acceptance.process import Server, environment, pileus, running_server
from pileus.store.sqlite import DATABASE_FILE

SERVER_RSS_LIMIT_MB = 300


@pytest.fixture
def data(tmp_path: Path, smollm2_path: Path, test_models_dir: Path) -> Path:
    """A data folder without a server, in which the default model is installed."""
    (tmp_path / "models").symlink_to(test_models_dir)
    return tmp_path


@pytest.fixture
def fake(tmp_path: Path) -> tuple[str, str]:
    """The arguments of a server that needs no model."""
    config = tmp_path / "pileus.toml"
    config.write_text('[[deployment]]\nname = "x"\nmodel = "fake"\nengine = "fake"\n')
    return "--config", str(config)


def fails_with_one_line(*arguments: str, status: int = 1) -> str:
    ran = pileus("up", "--no-browser", *arguments)
    assert (ran.returncode, ran.stdout) == (status, ""), ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("pileus: ")
    assert "Traceback" not in ran.stderr
    return last


# --- what works -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_greeting_has_a_curl_that_works_as_it_stands(server: Server) -> None:
    start = server.greeting.index("curl ")
    command = server.greeting[start : server.greeting.index("\n\n", start)]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=environment())
    assert '"chat.completion"' in done.stdout


def test_the_key_is_shown_at_the_first_start_only(data: Path) -> None:
    with running_server(data) as first:
        assert first.admin_key.startswith("sk-pileus-")
    with running_server(data) as second:
        assert "sk-pileus-" not in second.greeting
        assert "$PILEUS_API_KEY" in second.greeting
        with OpenAI(base_url=f"{second.base_url}/v1", api_key=first.admin_key) as client:
            assert [model.id for model in client.models.list()] == ["smollm2-135m"]


def test_a_start_and_its_stop_are_in_the_audit(tmp_path: Path, fake: tuple[str, str]) -> None:
    with running_server(tmp_path, *fake) as server:
        url = server.base_url
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as store:
        rows = store.execute("SELECT action, actor, outcome, target FROM audit ORDER BY sequence").fetchall()
    assert [row[:3] for row in (rows[0], rows[-1])] == [
        ("server.start", "system", "ok"),
        ("server.stop", "system", "ok"),
    ]
    assert rows[0][3].endswith(url)


def test_ctrl_c_lets_a_running_answer_finish(data: Path) -> None:
    with (
        running_server(data) as server,
        OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as client,
    ):
        stream = client.completions.create(
            model="default", prompt="Once", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        next(stream)
        stopping = threading.Thread(target=server.interrupt)
        stopping.start()
        reasons = [chunk.choices[0].finish_reason for chunk in stream]
        stopping.join()
        assert reasons[-1] == "length"
        assert server.process.returncode == 0


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_no_process_loads_pytorch_and_the_server_no_engine(server: Server, openai_client: OpenAI) -> None:
    openai_client.completions.create(model="default", prompt="Once", max_tokens=1)
    workers = server.children()
    assert workers
    for pid in (server.process.pid, *workers):
        assert "torch" not in mapped(pid)
    assert "openvino" not in mapped(server.process.pid)
    assert any("openvino" in mapped(pid) for pid in workers)


def test_an_idle_server_takes_little_memory(server: Server) -> None:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    assert int(resident) / 1024 <= SERVER_RSS_LIMIT_MB


# --- what cannot work, and says so ----------------------------------------------------------------------------------


def test_a_second_server_on_the_same_data_is_told_who_owns_it(server: Server) -> None:
    line = fails_with_one_line("--data", str(server.data), "--port", "0")
    assert str(server.process.pid) in line
    assert "--data" in line


def test_a_taken_port_is_told_with_another_to_try(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails_with_one_line("--data", str(data), "--port", str(port))
    assert str(port) in line
    assert "--port" in line


def test_a_data_folder_that_cannot_be_written_is_told() -> None:
    assert "--data" in fails_with_one_line("--data", "/proc/pileus", "--port", "0")


def test_a_start_that_cannot_be_audited_is_told(tmp_path: Path, fake: tuple[str, str]) -> None:
    with running_server(tmp_path, *fake):
        pass
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as store:
        store.execute("ALTER TABLE audit RENAME TO elsewhere")
    assert "the audit cannot be written" in fails_with_one_line("--data", str(tmp_path), "--port", "0", *fake)


def test_a_wrong_setting_is_a_configuration_error(data: Path) -> None:
    config = data / "pileus.toml"
    config.write_text('[[deployment]]\nname = "x"\nmodel = "smollm2-135m-instruct"\nengine = "natve"\n')
    line = fails_with_one_line("--data", str(data), "--config", str(config), status=78)
    assert f"{config}:4" in line
    assert "did you mean `native`?" in line


@pytest.fixture
def garbage_hub() -> Iterator[str]:
    """A hub that answers every request with a few bytes that are no model."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "7")
            self.end_headers()
            self.wfile.write(b"garbage")

        def log_request(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{hub.server_port}"
        hub.shutdown()
        thread.join()


def test_a_broken_download_is_told_and_leaves_no_model(tmp_path: Path, garbage_hub: str) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(f'[models]\nsources = ["hub"]\nhub_url = "{garbage_hub}"\n')
    line = fails_with_one_line("--data", str(tmp_path), "--config", str(config), "--port", "0")
    assert "smollm2-135m-instruct" in line
    assert not list((tmp_path / "models").glob("artefacts/*"))


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    in_small_folder = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=256k none {tmp_path} && exec "$@"',
        "sh",
    ]
    if subprocess.run([*in_small_folder, "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    command = [sys.executable, "-m", "pileus", "up", "--no-browser", "--port", "0", "--data", str(tmp_path)]
    ran = subprocess.run([*in_small_folder, *command], env=environment(), capture_output=True, text=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert ran.returncode == 1
    assert last.startswith("pileus: ")
    assert "space" in last or "full" in last
    assert "Traceback" not in ran.stderr
