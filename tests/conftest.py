"""What tests of several rooms share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from platformdirs import user_cache_path

from pileus.config.settings import Models
from pileus.models.catalogue import Catalogue

# An example that runs beside other work may be slow; that is no failure.
settings.register_profile("pileus", deadline=None)
settings.load_profile("pileus")

# Whoever is started in the background may ignore Ctrl-C, and so do its children: the commands that tests interrupt too.
# What has a handler here has its default action there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_MEMORY = Path("/dev/shm")  # what is made there has a name of its own
_ROOM_BYTES = 256 << 20


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder where a sync costs nothing, if this machine has one: for tests that open very many stores, and ask
    nothing of the disk."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        yield tmp_path
        return
    with TemporaryDirectory(prefix="pileus-test-", dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def test_models_dir() -> Path:
    """A models folder that outlives the run, so that weights are fetched once per machine."""
    return Path(os.environ.get("PILEUS_TEST_MODELS") or user_cache_path("pileus-tests", appauthor=False))


@pytest.fixture(scope="session")
def smollm2_path(test_models_dir: Path) -> Path:
    """The default model's artefact, pulled through the catalogue."""
    return Catalogue(test_models_dir, Models()).ensure("smollm2-135m-instruct").path
