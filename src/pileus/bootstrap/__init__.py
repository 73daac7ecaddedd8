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
    "fake": "pileus.testing.fake",
}

# A model that is none: the fake engine's own vocabulary.
FAKE_MODEL = "fake"


def load_driver(name: str) -> EngineDriver:
    """The driver of that name. Raises `KeyError` for one that is not in `ENGINES`."""
    driver: EngineDriver = import_module(ENGINES[name]).DRIVER
    return driver
