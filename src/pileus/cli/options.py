"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

from pileus.cli.client import DEFAULT_URL

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="PILEUS_CONFIG", help="Settings file; else ./pileus.toml if there is one."),
]
Data = Annotated[Path | None, typer.Option("--data", help="Data folder: models, keys, usage, audit.")]
Url = Annotated[str, typer.Option("--url", envvar="PILEUS_URL", help="The server to speak to.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="With a server of its own; implied where PILEUS_API_KEY is not set.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

__all__ = ["DEFAULT_URL", "Alone", "Config", "Data", "Json", "Url", "Yes"]
