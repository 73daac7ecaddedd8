"""The reference page says what the settings are, and the options of each engine."""

import subprocess
import sys
from pathlib import Path

import pytest

from pileus.bootstrap import ENGINES, load_driver
from pileus.bootstrap.reference import page
from pileus.config.load import load_settings
from pileus.config.reference import EXAMPLE
from pileus.config.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_in_the_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_setting_is_on_the_page() -> None:
    shown = page()
    for section_name, section in Settings():
        names = type(section).model_fields if hasattr(section, "model_fields_set") else ()
        for name in names:
            assert f"`{section_name}.{name}`" in shown


@pytest.mark.parametrize("engine", ENGINES)
def test_every_option_of_an_engine_is_on_the_page_with_its_meaning(engine: str) -> None:
    _, _, rest = page().partition(f"\n### `{engine}`\n")
    rows = {row.split(" | ")[0]: row for row in rest.partition("\n##")[0].splitlines() if row.startswith("| `options.")}
    fields = load_driver(engine).options.model_fields
    assert list(rows) == [f"| `options.{name}`" for name in fields]
    for name, field in fields.items():
        assert field.description
        assert rows[f"| `options.{name}`"].endswith(f" | {field.description} |")


def test_the_page_knows_nothing_of_the_machine_it_was_made_on() -> None:
    assert str(Path.home()) not in page()


def test_the_example_on_the_page_loads(tmp_path: Path) -> None:
    file = tmp_path / "pileus.toml"
    file.write_text(EXAMPLE, encoding="utf-8")
    settings = load_settings(file, {}, {}).settings
    assert settings.deployment[0].price.completion == 200_000


def test_the_module_prints_the_page() -> None:
    command = [sys.executable, "-m", "pileus.bootstrap.reference"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == page()
