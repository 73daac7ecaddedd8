"""`pileus speed`, with the real engine on a tiny model."""

from pathlib import Path

import pytest

from made_models import write_tiny_gguf
from made_versions import shelve
from pileus.config.settings import Models
from pileus.models.catalogue import Catalogue
from unit.cli.conftest import Pileus


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with a tiny model and an adapter."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    Catalogue(tmp_path / "models", Models()).import_folder(tmp_path / "tiny.gguf", "tiny")
    shelve(tmp_path / "models", "lora", {"adapter.json": b"{}"})
    return tmp_path


def test_a_model_is_measured_by_its_name_and_by_its_folder(pileus: Pileus, home: Path) -> None:
    for model in ("tiny", str(home / "models" / "artefacts" / "tiny")):
        ran = pileus("speed", model, "--tokens", "4", "--together", "2", "--data", str(home), "--json")
        assert ran.json()["tokens_per_s"]["2"] > 0
        assert ran.err.splitlines() == ["Loading ...", "1 at once ...", "2 at once ..."]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nowhere",), "there is no model 'nowhere'"),
        (("lora",), "generates no text"),
        (("tiny", "--tokens", "100000"), "a prompt and an answer do not fit"),
        (("tiny", "--options", '{"wings": 2}'), "the options are not the native engine's"),
        (("tiny", "--options", "{"), "the options are not the native engine's"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(
    pileus: Pileus, home: Path, arguments: tuple[str, ...], why: str
) -> None:
    ran = pileus("speed", *arguments, "--data", str(home))
    assert ran.status == 1
    assert why in ran.err
    assert "Loading" not in ran.err


def test_a_folder_without_a_model_is_told(pileus: Pileus, tmp_path: Path) -> None:
    assert "holds no model that Pileus has made ready" in pileus("speed", str(tmp_path)).err
