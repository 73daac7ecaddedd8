"""`pileus models`, from an import to a removal; the catalogue itself is tried in tests/unit/models."""

from pathlib import Path

import pytest

from made_models import write_tiny_gguf
from unit.cli.conftest import Pileus


def test_an_imported_model_is_listed_until_it_is_removed(
    pileus: Pileus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_gguf(tmp_path / "tiny.gguf")
    data = ("--data", str(tmp_path / "data"))
    assert pileus("models", "import", "tiny.gguf", "mine", *data, "--json").json()["installed"]
    kept = pileus("models", "rm", "mine", *data, "--json", piped="n\n")
    assert (kept.status, kept.out.strip()) == (1, "")
    removed = pileus("models", "rm", "mine", *data, "--json", piped="y\n")
    assert removed.json() == {"name": "mine", "deleted": True}
    assert "Delete mine" in removed.err
    assert "mine" not in [entry["name"] for entry in pileus("models", "list", *data, "--json").json()]
    assert pileus("models", "rm", "mine", *data, "--yes").status == 1
