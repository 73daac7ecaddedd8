"""`pileus speed`: an engine by itself. A report of a compression starts it; people may."""

from pathlib import Path
from typing import Annotated

import typer

from pileus.cli import output
from pileus.cli.config import load
from pileus.cli.options import Config, Data, Json
from pileus.cli.progress import Bars


def speed(
    model: Annotated[str, typer.Argument(help="As `pileus models list` shows it; or an artefact's folder.")],
    tokens: Annotated[int, typer.Option(min=2, help="Length of each prompt and of each answer.")] = 64,
    together: Annotated[list[int] | None, typer.Option(min=1, help="Requests at once; 1 and 32.")] = None,
    options: Annotated[str, typer.Option(help="Of the native engine, as JSON.")] = "{}",
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Measure the native engine on a model, without any server.

    Example: `pileus speed smollm2-135m-instruct`

    Example: `pileus speed smollm2-135m-instruct --together 8 --tokens 128 --options '{"kv_precision": "f16"}'`
    """
    from msgspec import to_builtins

    from pileus.bootstrap.speed import measure_speed

    with Bars() as bars:
        found = measure_speed(_folder(model, data, config), options.encode(), tuple(together or (1, 32)), tokens, bars)
    if json:
        output.json(to_builtins(found))
        return
    fields = {f"{requests} at once": f"{rate:,.1f} tokens/s" for requests, rate in found.tokens_per_s.items()}
    output.fields(fields | {"memory": output.size(found.memory_bytes)})


def _folder(model: str, data: Path | None, config: Path | None) -> Path:
    from pileus.bootstrap.local import open_catalogue

    if Path(model).is_dir():
        return Path(model)
    return open_catalogue(load(config, {"data_dir": data}).settings).require(model).path
