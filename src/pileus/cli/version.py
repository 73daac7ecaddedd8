"""`pileus version`."""

import platform

from pileus import __version__
from pileus.cli import output
from pileus.cli.options import Json


def version(json: Json = False) -> None:
    """Show the version of Pileus.

    Example: `pileus version --json`
    """
    if json:
        output.json({"version": __version__, "python": platform.python_version(), "platform": platform.platform()})
    else:
        output.line(f"pileus {__version__}")
