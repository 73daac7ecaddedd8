"""`pileus config`: what is set, where it was set, and whether it holds."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pileus.cli import output
from pileus.cli.options import Config, Data, Json

if TYPE_CHECKING:
    from pileus.config.load import Loaded

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)

_DEFAULT_FILE = Path("pileus.toml")


def load(config: Path | None, flags: dict[str, Any] | None = None) -> "Loaded":
    """The settings as every command sees them: defaults < pileus.toml < `PILEUS_*` < flags."""
    from pileus.config.load import load_settings

    file = config or (_DEFAULT_FILE if _DEFAULT_FILE.exists() else None)
    return load_settings(file, os.environ, flags or {})


@app.command("show")
def show(config: Config = None, data: Data = None, json: Json = False) -> None:
    """Show every setting and where its value comes from.

    Example: `PILEUS_SERVER__PORT=9000 pileus config show`
    """
    loaded = load(config, {"data_dir": data})
    if json:
        output.json({key: {"value": value, "origin": origin} for key, value, origin in loaded.rows()})
    else:
        output.table(("SETTING", "VALUE", "FROM"), loaded.rows())


@app.command("check")
def check(config: Config = None, data: Data = None, json: Json = False) -> None:
    """Check the configuration, engines' own options included; name each mistake's line and its fix.

    Example: `pileus config check --config pileus.toml`
    """
    loaded = load(config, {"data_dir": data})

    from pileus.bootstrap import local

    local.check(loaded)
    names = [deployment.name for deployment in loaded.settings.deployment]
    if json:
        output.json({"valid": True, "deployments": names})
    else:
        output.line(f"The configuration is valid. It deploys: {', '.join(names)}.")
