"""A repository of a hub on this machine, which says what the real one says: sizes, sha256 of large files, git's hashes
of the others."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from made_encoders import write_bert
from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.core.records import Pooling
from pileus.models.artefact import verify
from pileus.models.catalogue import Catalogue
from unit.models.test_import import add_weights

COMMIT = "c0ffee" + "0" * 34


class Repository:
    """Serves `files`; as the hub does, large ones are known by sha256, small ones by git's hash."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lies: dict[str, bytes] = {}  # what it gives instead
        self.breaks_after = 0  # of a large file, once
        self.asked: list[tuple[str, str | None]] = []
        self.token = ""  # that it wants to see
        self.url = ""

    def listing(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for name, content in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
            if name.endswith((".safetensors", ".gguf")):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("range")
        self.asked.append((request.path, asked))
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            request.send_error(401)
            return
        if request.path == "/api/models/some/model/revision/main?blobs=true":
            body = json.dumps(self.listing()).encode()
        else:
            name = request.path.removeprefix(f"/some/model/resolve/{COMMIT}/")
            if name not in self.files:
                request.send_error(404)
                return
            body = self.lies.get(name, self.files[name])
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        request.send_response(206 if start else 200)
        request.send_header("content-length", str(len(body) - start))
        request.end_headers()
        with suppress(ConnectionError):
            if self.breaks_after and len(body) > self.breaks_after:
                request.wfile.write(body[start : self.breaks_after])
                self.breaks_after = 0
                return
            request.wfile.write(body[start:])


@pytest.fixture
def hub() -> Iterator[Repository]:
    found = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def repository(hub: Repository, huggingface_folder: Path) -> Repository:
    """With weights in safetensors, and what is never taken."""
    add_weights(huggingface_folder)
    hub.files = {file.name: file.read_bytes() for file in huggingface_folder.iterdir()}
    hub.files |= {
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"code",
        "onnx/model.json": b"{}",
        ".gitattributes": b"",
    }
    return hub


@pytest.fixture
def catalogue(hub: Repository, tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "models", Models(hub_url=hub.url), ())


def fetched(hub: Repository) -> set[str]:
    return {path.rpartition("/")[2] for path, _ in hub.asked if "/resolve/" in path}


def test_a_repository_is_pulled_converted_and_kept_as_master(repository: Repository, catalogue: Catalogue) -> None:
    artefact = catalogue.pull("some/model")
    assert (verify(artefact.path).name, artefact.licence) == ("model", "apache-2.0")
    assert artefact.manifest.origin == f"hub:some/model@{COMMIT}"
    master = catalogue.master("model")
    assert master is not None
    assert {file.name for file in master.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert fetched(repository) == {"config.json", "tokenizer.json", "model.safetensors"}
    with pytest.raises(OperatorError, match="installed already"):
        catalogue.pull("some/model")


def test_what_is_not_for_everybody_is_pulled_with_a_token(
    repository: Repository, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.token = "hf_abc"
    with pytest.raises(OperatorError, match="not for everybody: then export HF_TOKEN"):
        catalogue.pull("some/model")
    monkeypatch.setenv("HF_TOKEN", "hf_abc\n")
    assert catalogue.pull("some/model").name == "model"


def test_how_an_encoder_pools_is_pulled_with_it(hub: Repository, catalogue: Catalogue, tmp_path: Path) -> None:
    source = write_bert(tmp_path / "bert")
    hub.files = {file.name: file.read_bytes() for file in source.iterdir()}
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": path}
        for kind, path in (("Transformer", ""), ("Pooling", "1_Pooling"))
    ]
    hub.files |= {
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
        "onnx/config.json": b"{}",
    }
    artefact = catalogue.pull("some/model")
    assert artefact.encoding is not None
    assert artefact.encoding.pooling is Pooling.CLS
    del hub.files["1_Pooling/config.json"]
    with pytest.raises(OperatorError, match=r"1_Pooling/config\.json, which says how, is missing"):
        catalogue.pull("some/model", name="other")


def test_a_gguf_of_a_repository_is_named(hub: Repository, catalogue: Catalogue, tiny_gguf: Path) -> None:
    hub.files = {"sub/Tiny.Q4.gguf": tiny_gguf.read_bytes()}
    with pytest.raises(OperatorError, match=r"no safetensors: name one of its GGUF files: sub/Tiny\.Q4\.gguf"):
        catalogue.pull("some/model")
    with pytest.raises(OperatorError, match=r"has no other\.gguf; its GGUF files: sub/Tiny\.Q4\.gguf"):
        catalogue.pull("some/model/other.gguf")
    assert verify(catalogue.pull("some/model/sub/Tiny.Q4.gguf").path).name == "tiny.q4"


def test_a_pull_that_broke_off_goes_on(repository: Repository, catalogue: Catalogue) -> None:
    repository.breaks_after = 20_000
    assert catalogue.pull("some/model", name="mine").name == "mine"
    assert ("bytes=20000-") in {asked for _, asked in repository.asked}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_the_hub_says_is_refused(
    repository: Repository, catalogue: Catalogue, name: str
) -> None:
    repository.lies = {name: b"!" + repository.files[name][1:]}
    with pytest.raises(OperatorError, match=f"gives for {name} is broken, and was deleted; pull again"):
        catalogue.pull("some/model")
    assert catalogue.installed("model") is None
    repository.lies = {}
    assert catalogue.pull("some/model").name == "model"


def test_a_repository_that_there_is_not_is_told(hub: Repository, catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot pull no/such: .* answers 404"):
        catalogue.pull("no/such")
    with pytest.raises(OperatorError, match="is no repository of a hub"):
        catalogue.pull("../../etc/passwd")
    with pytest.raises(OperatorError, match="offline"):
        Catalogue(tmp_path / "models", Models(hub_url=hub.url, offline=True), ()).pull("some/model")
