"""docs/howto/add-an-engine.md, followed to the letter in a copy of the source."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from openai import OpenAI

from acceptance.process import environment, running_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "add-an-engine.md").read_text()


def block(language: str) -> str:
    [text] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with the page's file and the page's line."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".importlinter"):
        shutil.copy(ROOT / name, project / name)
    [path] = re.findall(r"^`(src/\S+)`:$", PAGE, re.MULTILINE)
    (project / path).write_text(block("python"))
    [listing] = re.findall(r"^In `ENGINES` of `(src/\S+)`", PAGE, re.MULTILINE)
    bootstrap = project / listing
    before, after = ("".join(re.findall(rf"^[ {mark}](.*\n)", block("diff"), re.MULTILINE)) for mark in "-+")
    assert bootstrap.read_text().count(before) == 1
    bootstrap.write_text(bootstrap.read_text().replace(before, after))
    return project


def test_the_new_engine_serves(
    source: Path, tmp_path: Path, smollm2_path: Path, test_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(source / "src"))
    (tmp_path / "models").symlink_to(test_models_dir)
    config = tmp_path / "pileus.toml"
    config.write_text(block("toml"))
    with (
        running_server(tmp_path, "--config", str(config)) as server,
        OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key) as client,
    ):
        [prompt] = re.findall(r'"prompt": "(.*?)"', PAGE)
        [answer] = re.findall(r"^answers `(.*)`\.$", PAGE, re.MULTILINE)
        completion = client.completions.create(model="parrot", prompt=prompt)
        assert completion.choices[0].text == answer
        assert completion.choices[0].finish_reason == "stop"
        chat = client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": "Who is there?"}])
        assert "Who is there?" in (chat.choices[0].message.content or "")


def test_the_new_engine_keeps_the_contracts_and_its_types(source: Path) -> None:
    for check in (["lint-imports", "--no-logo"], ["mypy", "src/pileus/engines/echo.py"]):
        command = [str(Path(sys.executable).with_name(check[0])), *check[1:]]
        env = environment(PYTHONPATH=str(source / "src"))
        done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
