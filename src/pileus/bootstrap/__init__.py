"""The composition root: the only place where rooms meet their adapters. It puts together; it decides nothing.

Adapters are imported where they are needed: a replica (`worker`) never loads the web framework, the server (`server`)
never loads OpenVINO. Here is what both know: the engines.
"""

from collections.abc import Mapping
from importlib import import_module

from pileus.core.ports import EngineDriver

# Where the `DRIVER` of each engine is.
ENGINES: Mapping[str, str] = {
    "native": "pileus.engines.native",
    "encoder": "pileus.engines.encoder",
    "fake": "pileus.testing.fake",
    "fake_encoder": "pileus.testing.fake_encoder",
}

# For models that encode texts; the others are for those that speak.
ENCODERS = frozenset({"encoder", "fake_encoder"})

# Models that are none: the fake engines' own vocabulary.
FAKE_MODEL = "fake"
FAKE_ENCODER = "fake-encoder"
FAKE_MODELS = frozenset({FAKE_MODEL, FAKE_ENCODER})


def load_driver(name: str) -> EngineDriver:
    """The driver of that name. Raises `KeyError` for one that is not in `ENGINES`."""
    driver: EngineDriver = import_module(ENGINES[name]).DRIVER
    return driver
