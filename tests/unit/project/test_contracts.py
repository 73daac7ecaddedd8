"""The import contracts themselves: they must not go stale as dependencies come."""

import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
CORE_MAY_IMPORT = {"msgspec"}


def test_the_core_is_forbidden_every_dependency_but_msgspec() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    forbidden = set(contracts["importlinter:contract:core"]["forbidden_modules"].split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    modules = {
        module
        for module, distributions in packages_distributions().items()
        if dependencies & {canonicalize_name(name) for name in distributions} and not module.startswith("_")
    }
    assert modules - forbidden - CORE_MAY_IMPORT == set()
