"""Prints `docs/configuration.md`: `make docs` runs `python -m pileus.bootstrap.reference`."""

import sys

from pileus.bootstrap import ENGINES, load_driver
from pileus.config.reference import render


def page() -> str:
    """The page, with the options of every engine that is offered."""
    return render((name, load_driver(name).options) for name in ENGINES)


if __name__ == "__main__":
    sys.stdout.write(page())
