"""`pileus demo life`: a little of everything, with a tiny model where SmolLM2 learns else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from acceptance.process import environment
from tuned import install_tiny_base

CHAPTERS = [
    "A corpus",
    "A GPT from nothing",
    "A BERT from nothing",
    "A classifier, served",
    "Translation: a Transformer and an LSTM",
    "SmolLM2 learns from tickets",
    "Smaller",
    "Judged, released, taken back",
]


PATIENCE_S = 600.0


def life(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pileus", "demo", "life", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.slow
def test_a_quick_life_has_every_chapter_and_every_plot(tmp_path: Path) -> None:
    folder = tmp_path / "life"
    install_tiny_base(folder / "data", intermediate_size=64)  # groups of 32 fit in
    done = life("--quick", "--base", "tiny", "-o", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [chapter["title"] for chapter in report["chapters"]] == CHAPTERS
    assert json.loads((folder / "report.json").read_bytes())["chapters"] == report["chapters"]
    page = (folder / "report.md").read_text()
    for chapter in report["chapters"]:
        assert all(f"| {figure['name']} |" in page for figure in chapter["figures"])
        assert all((folder / plot).read_bytes().startswith(b"\x89PNG") for plot in chapter["plots"])
    again = life("-o", str(folder))
    assert again.returncode == 1
    assert "is not empty" in again.stderr
