"""`pileus config`."""

from pathlib import Path

import pytest

from unit.cli.conftest import Pileus


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings file here, and none from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILEUS_CONFIG", raising=False)
    return tmp_path


def test_show_tells_where_each_value_comes_from(
    pileus: Pileus, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "pileus.toml").write_text("[server]\nport = 9000\n")
    monkeypatch.setenv("PILEUS_LOG__LEVEL", "debug")
    shown = pileus("config", "show", "--json", "--data", "/srv/pileus").json()
    assert shown["server.port"] == {"value": 9000, "origin": "pileus.toml:2"}
    assert shown["log.level"] == {"value": "debug", "origin": "PILEUS_LOG__LEVEL"}
    assert shown["data_dir"] == {"value": "/srv/pileus", "origin": "flag"}
    assert shown["server.host"]["origin"] == "default"


def test_a_mistake_is_told_with_its_line_and_ends_with_78(pileus: Pileus, empty_folder: Path) -> None:
    (empty_folder / "pileus.toml").write_text("[server]\nprot = 9000\nhost = 7\n")
    ran = pileus("config", "check")
    assert (ran.status, ran.out) == (78, "")
    first, second = ran.err.splitlines()
    assert first.startswith("pileus: pileus.toml:2: server.prot: unknown setting; did you mean `port`?")
    assert second.startswith("pileus: pileus.toml:3: server.host: ")


def test_a_file_that_is_not_there_is_told(pileus: Pileus) -> None:
    ran = pileus("config", "show", "--config", "no.toml")
    assert ran.status == 78
    assert "no.toml: cannot be read" in ran.err
