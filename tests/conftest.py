"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from platformdirs import user_cache_path

from pileus.config.settings import Models
from pileus.models.catalogue import Catalogue

# An example that runs beside other work may be slow; that is no failure.
settings.register_profile("pileus", deadline=None)
settings.load_profile("pileus")


@pytest.fixture(scope="session")
def test_models_dir() -> Path:
    """A models folder that outlives the run, so that weights are fetched once per machine."""
    return Path(os.environ.get("PILEUS_TEST_MODELS") or user_cache_path("pileus-tests", appauthor=False))


@pytest.fixture(scope="session")
def smollm2_path(test_models_dir: Path) -> Path:
    """The default model's artefact, pulled through the catalogue."""
    return Catalogue(test_models_dir, Models()).ensure("smollm2-135m-instruct").path
