"""Documents cannot lie: what README and docs/ tell people to type is typed here, against a real server."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from acceptance.process import Server, environment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS_TRAINING = pytest.mark.skipif(
    find_spec("torch") is None, reason="the `train` extra is not installed: `make extras`"
)
TOURS = [
    ROOT / "README.md",
    ROOT / "docs" / "quickstart.md",
    ROOT / "docs" / "howto" / "share-fairly.md",
    ROOT / "docs" / "howto" / "run-batches.md",
    ROOT / "docs" / "howto" / "run-in-the-background.md",
    ROOT / "docs" / "howto" / "store-files.md",
    ROOT / "docs" / "howto" / "follow-jobs.md",
    ROOT / "docs" / "howto" / "evaluate-and-promote.md",
    ROOT / "docs" / "howto" / "explain-attention.md",
    ROOT / "docs" / "howto" / "back-up.md",
    ROOT / "docs" / "howto" / "version-models.md",
    pytest.param(ROOT / "docs" / "howto" / "train.md", marks=NEEDS_TRAINING, id="train.md"),
]
# Of these the commands alone: their programs train for minutes.
TYPED = [*TOURS, pytest.param(ROOT / "docs" / "howto" / "fine-tune.md", marks=NEEDS_TRAINING, id="fine-tune.md")]
HOWTO = ROOT / "docs" / "howto" / "add-an-engine.md"
# These set the stage, and the tests have set it already.
STAGE = ("git clone", "make", "export", "cd ")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """What follows a `$` in the page's console blocks, with its continued lines."""
    typed = [
        match
        for block in blocks(page, "console")
        for match in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE)
        if not match.startswith(STAGE)
    ]
    assert typed
    return typed


def address(text: str, server: Server) -> str:
    return text.replace("http://127.0.0.1:8000", server.base_url)


def tour_environment(server: Server, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return environment(PATH=path, PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key, **more)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_every_command_of_a_tour_works_as_it_stands(page: Path, server: Server, tmp_path: Path) -> None:
    for command in commands(page):
        done = subprocess.run(
            ["bash", "-c", address(command, server)],
            env=tour_environment(server, PILEUS_DATA_DIR=str(server.data)),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert '"error"' not in done.stdout, command


@pytest.mark.parametrize("page", TOURS, ids=lambda page: page.name)
def test_every_program_of_a_tour_runs_as_it_stands(page: Path, server: Server, tmp_path: Path) -> None:
    for program in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", address(program, server)],
            env=tour_environment(server),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


@pytest.mark.parametrize("page", TOURS, ids=lambda page: page.name)
def test_every_settings_file_of_a_tour_is_valid(page: Path, tmp_path: Path) -> None:
    for number, settings in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(settings)
        check = [sys.executable, "-m", "pileus", "config", "check", "--config", str(file)]
        subprocess.run(check, env=environment(), check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets
