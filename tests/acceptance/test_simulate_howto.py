"""docs/howto/simulate.md: every command is typed as it stands there, in one folder, against the file that it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from acceptance.process import environment

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "simulate.md"

# Stands in for the real engine, which `pileus calibrate` would first have to get and load.
SETTINGS = """
[[deployment]]
name = "smollm2-135m"
model = "fake"
engine = "fake"
options = { slots = 8, step_s = 0.001 }
"""


def test_every_command_of_the_page_works_as_it_stands(tmp_path: Path) -> None:
    text = PAGE.read_text()
    [trace] = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "trace.jsonl").write_text(trace)
    (tmp_path / "pileus.toml").write_text(SETTINGS)
    commands = re.findall(r"^\$ (.*)", text, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "pileus"
        done = subprocess.run(
            [sys.executable, "-m", "pileus", *arguments],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "runs.svg").exists()
