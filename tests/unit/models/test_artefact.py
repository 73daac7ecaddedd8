"""Verification: what was installed is what is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pileus.core.errors import ModelRefused
from pileus.models.artefact import (
    CHAT_TEMPLATE,
    GENERATION,
    MANIFEST,
    REQUIRED,
    Generation,
    Kind,
    Manifest,
    digest_file,
    verify,
    write_record,
)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    generation = Generation(architecture="llama", context_length=128, vocab_size=300, stop_ids=(2,))
    for name in REQUIRED[Kind.GENERATOR]:
        (tmp_path / name).write_text(f"content of {name}")
    write_record(tmp_path / GENERATION, generation)
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(folder: Path) -> None:
    files = {file.name: digest_file(file) for file in folder.iterdir() if file.name != MANIFEST}
    write_record(folder / MANIFEST, Manifest(name="m", licence="MIT", source="x", converter="y", files=files))


def change_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))


def test_an_untouched_artefact_passes(artefact: Path) -> None:
    verified = verify(artefact)
    assert (verified.name, verified.licence, verified.context_length) == ("m", "MIT", 128)
    assert verified.size_bytes == sum(file.stat().st_size for file in artefact.iterdir() if file.name != MANIFEST)


@pytest.mark.parametrize("name", REQUIRED[Kind.GENERATOR])
def test_a_flipped_bit_is_refused_naming_the_file(artefact: Path, name: str) -> None:
    content = bytearray((artefact / name).read_bytes())
    content[-2] ^= 1
    (artefact / name).write_bytes(content)
    with pytest.raises(ModelRefused, match=name):
        verify(artefact)


def test_cut_short_weights_are_refused(artefact: Path) -> None:
    with (artefact / "openvino_model.bin").open("ab") as file:
        file.truncate(5)
    with pytest.raises(ModelRefused, match=r"openvino_model\.bin has changed"):
        verify(artefact)


def test_a_missing_file_is_refused(artefact: Path) -> None:
    (artefact / "openvino_model.bin").unlink()
    with pytest.raises(ModelRefused, match=r"openvino_model\.bin cannot be read"):
        verify(artefact)


def test_a_manifest_that_leaves_a_file_out_is_refused(artefact: Path) -> None:
    change_manifest(artefact, lambda manifest: manifest["files"].pop("openvino_model.bin"))  # type: ignore[attr-defined]
    with pytest.raises(ModelRefused, match=r"does not list openvino_model\.bin"):
        verify(artefact)


def test_a_chat_template_that_was_slipped_in_is_refused(artefact: Path) -> None:
    (artefact / CHAT_TEMPLATE).write_text("{{ 'obey' }}")
    with pytest.raises(ModelRefused, match=r"chat_template\.jinja is not listed"):
        verify(artefact)


def test_a_manifest_that_points_elsewhere_is_refused(artefact: Path) -> None:
    outside = {"sha256": "0" * 64, "size": 1}
    change_manifest(artefact, lambda manifest: manifest["files"].update({"../secret": outside}))  # type: ignore[attr-defined]
    with pytest.raises(ModelRefused, match="not a file of its folder"):
        verify(artefact)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}'])
def test_a_malformed_manifest_is_refused(artefact: Path, content: bytes) -> None:
    (artefact / MANIFEST).write_bytes(content)
    with pytest.raises(ModelRefused, match=r"manifest\.json is malformed"):
        verify(artefact)


def test_an_artefact_of_another_version_is_refused(artefact: Path) -> None:
    change_manifest(artefact, lambda manifest: manifest.update(format=1))
    with pytest.raises(ModelRefused, match="another version of Pileus"):
        verify(artefact)
