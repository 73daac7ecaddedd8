"""What an import keeps, what it does not do twice, and what it leaves when it fails. The conversion is real."""

import json
import shutil
from pathlib import Path

import pytest

from pileus.config.settings import Models
from pileus.core.errors import ModelRefused
from pileus.models.artefact import verify
from pileus.models.catalogue import Catalogue
from pileus.models.versions import Registry
from pileus.security.signing import Signer
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from unit.models.test_import import add_weights


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "models", Models(), ())


def stages_of(catalogue: Catalogue, path: Path, name: str) -> list[str]:
    told: list[str] = []
    catalogue.import_folder(path, name, lambda stage, done, total: told.append(stage))
    return list(dict.fromkeys(told))


def test_the_same_content_is_converted_once_whatever_it_is_called(catalogue: Catalogue, tiny_gguf: Path) -> None:
    assert "converting" in stages_of(catalogue, tiny_gguf, "one")
    renamed = tiny_gguf.with_name("other.gguf")
    shutil.copy(tiny_gguf, renamed)
    assert stages_of(catalogue, renamed, "two") == ["verifying", "installing"]
    first, second = catalogue.installed("one"), catalogue.installed("two")
    assert first is not None
    assert second is not None
    assert (verify(second.path).name, second.manifest.files) == ("two", first.manifest.files)
    weights = "openvino_model.bin"
    assert (first.path / weights).samefile(second.path / weights)
    catalogue.remove("one")
    assert verify(second.path) == second


def test_a_damaged_twin_is_not_taken_for_the_conversion(catalogue: Catalogue, tiny_gguf: Path) -> None:
    path = catalogue.import_folder(tiny_gguf, "one").path / "openvino_model.bin"
    path.write_bytes(b"!" + path.read_bytes()[1:])
    assert "converting" in stages_of(catalogue, tiny_gguf, "two")
    assert verify(catalogue.import_folder(tiny_gguf, "three").path).name == "three"


def test_a_folder_with_safetensors_is_kept_to_be_trained_further(
    catalogue: Catalogue, huggingface_folder: Path
) -> None:
    add_weights(huggingface_folder)
    for name in ("pytorch_model.bin", "modeling.py", ".hidden.json"):
        (huggingface_folder / name).write_text("x")
    (huggingface_folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    artefact = catalogue.import_folder(huggingface_folder, "mine")
    master = catalogue.master("mine")
    assert master is not None
    assert {file.name for file in master.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    assert artefact.licence == "apache-2.0"
    shutil.rmtree(huggingface_folder)
    assert (master / "model.safetensors").stat().st_size > 0
    catalogue.remove("mine")
    assert catalogue.master("mine") is None


def test_a_gguf_file_has_no_master(catalogue: Catalogue, tiny_gguf: Path) -> None:
    catalogue.import_folder(tiny_gguf, "mine")
    assert catalogue.master("mine") is None


def test_a_refused_folder_leaves_no_master(catalogue: Catalogue, huggingface_folder: Path) -> None:
    add_weights(huggingface_folder, without="model.norm")
    with pytest.raises(ModelRefused, match=r"model\.norm\.weight is missing"):
        catalogue.import_folder(huggingface_folder, "mine")
    assert catalogue.master("mine") is None
    assert catalogue.installed("mine") is None


def test_a_changed_folder_is_another_content(catalogue: Catalogue, huggingface_folder: Path) -> None:
    add_weights(huggingface_folder)
    catalogue.import_folder(huggingface_folder, "one")
    config = huggingface_folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 64}))
    assert catalogue.import_folder(huggingface_folder, "two").context_length == 64


async def test_an_import_may_be_the_next_version_of_another_model(
    catalogue: Catalogue, tiny_gguf: Path, tmp_path: Path
) -> None:
    catalogue.import_folder(tiny_gguf, "mine")
    catalogue.import_folder(tiny_gguf, "mine-2", model="mine", licence="MIT")
    store = SqliteStore.open(tmp_path)
    try:
        registry = Registry(store, tmp_path / "models" / "artefacts", Signer(bytes(32)), ManualClock(1e9))
        [model] = await registry.models(None)
        assert [(each.number, each.artefact, each.licence) for each in model.versions] == [
            (2, "mine-2", "MIT"),
            (1, "mine", ""),
        ]
    finally:
        store.close()
