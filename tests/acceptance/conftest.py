"""Real servers: `pileus up` as a process on a free port, with a data folder of its own, ended by Ctrl-C."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from playwright.sync_api import Browser

from acceptance.browser import chromium
from acceptance.process import Server, running_server
from pileus.models.importing import link
from pileus.models.known import SMOLLM2

# The first is what `make up` serves; the second gives the same text however it is asked for.
TWO_DEPLOYMENTS = """
[[deployment]]
name = "smollm2-135m"
model = "smollm2-135m-instruct"
aliases = ["default"]

[[deployment]]
name = "smollm2-exact"
model = "smollm2-135m-instruct"
options = { deterministic = true }
"""


@pytest.fixture(scope="session")
def model_data(smollm2_path: Path, test_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh data folder in which the default model is installed already. What tests install stays in it."""
    data = tmp_path_factory.mktemp("data")
    (data / "models" / "blobs").mkdir(parents=True)
    shutil.copytree(smollm2_path, data / "models" / "artefacts" / smollm2_path.name, copy_function=_link)
    if (blob := test_models_dir / "blobs" / SMOLLM2.sha256).exists():
        _link(blob, data / "models" / "blobs" / blob.name)
    return data


def _link(source: str | Path, target: str | Path) -> None:
    link(Path(source), Path(target))


@pytest.fixture(scope="session")
def server(model_data: Path) -> Iterator[Server]:
    """One server for all tests that only use it."""
    config = model_data / "pileus.toml"
    config.write_text(TWO_DEPLOYMENTS)
    with running_server(model_data, "--config", str(config)) as server:
        yield server


@pytest.fixture(scope="session")
def openai_client(server: Server) -> Iterator[OpenAI]:
    """The official client, as a user of the server sets it up."""
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    with chromium() as browser:
        yield browser
