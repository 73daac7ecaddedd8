"""What a fresh clone shows: the project, and nothing that was made or kept beside it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOP = {
    *(".ci", ".gitignore", ".importlinter", "CHANGELOG.md", "LICENSE", "Makefile", "README.md"),
    *("benchmarks", "docs", "pyproject.toml", "requirements", "scripts", "src", "tests"),
}

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="this is no git checkout"
)


def listed(*flags: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", *flags], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_a_clone_has_the_project_at_its_top_and_nothing_else() -> None:
    assert {name.partition("/")[0] for name in listed()} == TOP


def test_nothing_that_is_made_is_in_a_clone() -> None:
    assert listed("--cached", "--ignored", "--exclude-standard") == []
