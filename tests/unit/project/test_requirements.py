"""The locks: complete, pinned by hash, free of PyTorch and of any index's address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVE = ROOT / "requirements" / "serve.txt"
DEV = ROOT / "requirements" / "dev.txt"
LOCKS = [SERVE, DEV, ROOT / "requirements" / "uv.txt"]


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def wanted(lock: Path) -> list[Requirement]:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    texts = project["dependencies"] + project["optional-dependencies"]["telemetry"] + groups["build"]
    return [Requirement(text) for text in texts + (groups["dev"] if lock == DEV else [])]


@pytest.mark.parametrize("lock", [SERVE, DEV], ids=lambda path: path.name)
def test_every_dependency_is_locked_at_a_version_that_the_project_allows(lock: Path) -> None:
    locked = pins(lock)
    for requirement in wanted(lock):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in {lock.name}: run `make lock`"
        assert version in requirement.specifier, f"{requirement} is locked at {version}: run `make lock`"


def test_the_checks_run_on_the_versions_that_are_served() -> None:
    assert pins(SERVE).items() <= pins(DEV).items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert pins(lock)
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert not re.search(r"https?://|file://|--(extra-)?index|--find-links", text)


def test_serving_needs_no_pytorch() -> None:
    assert not pins(SERVE).keys() & {"torch", "transformers", "accelerate"}
    assert not any(name.startswith("nvidia-") for name in pins(SERVE))
