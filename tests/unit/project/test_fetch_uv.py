"""How uv comes where Python has no pip."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "fetch_uv.py"
VERSION = "0.1.2"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index with a made-up uv for this machine, another one, and another version."""
    page = tmp_path / "index" / "uv"
    page.mkdir(parents=True)
    libc = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
    names = [
        f"uv-{VERSION}-py3-none-{libc}_{platform.machine()}.whl",
        f"uv-{VERSION}-py3-none-win_amd64.whl",
        f"uv-9.9.9-py3-none-{libc}_{platform.machine()}.whl",
    ]
    for name in names:
        with zipfile.ZipFile(page / name, "w") as wheel:
            wheel.writestr(f"uv-{VERSION}.data/scripts/uv", f"#!/bin/sh\necho this is {name}\n")
    (page / "index.html").write_text("".join(f'<a href="../uv/{name}#sha256=0">{name}</a>' for name in names))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "index")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(folder: Path, index: str, digest: str) -> subprocess.CompletedProcess[str]:
    """In a project of its own that pins this digest."""
    (folder / "scripts").mkdir()
    (folder / "requirements").mkdir()
    shutil.copy(SCRIPT, folder / "scripts")
    (folder / "requirements" / "uv.txt").write_text(f"uv=={VERSION} \\\n    --hash=sha256:{digest}\n")
    return subprocess.run(
        [sys.executable, "-I", folder / "scripts" / "fetch_uv.py", folder / "uv"],
        env=os.environ | {"PIP_INDEX_URL": index, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pinned_wheel_for_this_machine_is_taken(tmp_path: Path, index: str) -> None:
    [wheel] = (tmp_path / "index" / "uv").glob(f"uv-{VERSION}-*linux*")
    done = fetch(tmp_path, index, hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert done.returncode == 0, done.stderr
    said = subprocess.run([tmp_path / "uv"], capture_output=True, text=True, check=True).stdout
    assert said == f"this is {wheel.name}\n"


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, index: str) -> None:
    done = fetch(tmp_path, index, "0" * 64)
    assert done.returncode != 0
    assert "is not the one that is pinned" in done.stderr
    assert not (tmp_path / "uv").exists()


def test_an_index_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = fetch(tmp_path, "http://127.0.0.1:9", "0" * 64)
    assert "cannot be read" in done.stderr
