"""The command as a whole: its exit statuses, its help, its completion, its speed."""

import re
import subprocess
import sys

import pytest

from pileus import __version__
from pileus.cli import output
from pileus.cli.main import app
from pileus.core.errors import ConfigError, OperatorError, PileusError
from unit.cli.conftest import Pileus

COMMANDS = ["up", "serve", "chat", "models", "ps", "status", "deploy", "undeploy", "scale", "restart", "logs"]
COMMANDS += ["keys", "audit", "usage", "simulate", "calibrate", "config", "version"]


def test_version_is_told_to_people_and_to_programs(pileus: Pileus) -> None:
    assert pileus("version").out == f"pileus {__version__}\n"
    assert pileus("version", "--json").json()["version"] == __version__


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("no"), 78),
        (OperatorError("no"), 1),
        (OSError(28, "No space left", "x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_fails_as_expected_has_a_status_and_no_traceback(
    pileus: Pileus, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(output, "line", fail)
    ran = pileus("version")
    assert ran.status == status
    assert "Traceback" not in ran.err
    if isinstance(error, PileusError):
        assert ran.err == "pileus: no\n"


def test_a_wrong_option_is_a_usage_error(pileus: Pileus) -> None:
    ran = pileus("status", "--jsn")
    assert ran.status == 2
    assert "--json" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(pileus: Pileus, command: str) -> None:
    assert f" {command} " in pileus("--help").out
    if command not in ("models", "keys", "config"):
        assert "Example" in pileus(command, "--help").out


def test_every_subcommand_has_help_with_an_example_and_can_speak_json(pileus: Pileus) -> None:
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            told = pileus(str(group.name), str(command.name), "--help").out
            assert "Example" in told
            assert "--json" in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str) -> None:
    environment = {
        "_PILEUS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "pileus mo",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "pileus mo",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    run = [sys.executable, "-c", "import sys; sys.argv = ['pileus']; from pileus.cli.main import main; main()"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"\bmodels\b", done.stdout), done


def test_no_command_pays_for_what_it_does_not_use() -> None:
    heavy = ["fastapi", "httpx", "numpy", "openvino", "rich", "sqlalchemy", "uvicorn"]
    code = f"import pileus.cli.main, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
