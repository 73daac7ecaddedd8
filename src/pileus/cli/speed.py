"""`pileus speed`: an engine by itself. A report of a compression starts it; people may."""

from pathlib import Path
from typing import Annotated

import typer

from pileus.cli import output


def speed(
    folder: Annotated[Path, typer.Argument(help="An artefact's folder, as `pileus models show` tells it.")],
    tokens: Annotated[int, typer.Option(min=2, help="Length of each prompt and of each answer.")] = 64,
    together: Annotated[list[int] | None, typer.Option(min=1, help="Requests at once; 1 and 32.")] = None,
    options: Annotated[str, typer.Option(help="Of the native engine, as JSON.")] = "{}",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the native engine on a model, without any server.

    Example: `pileus speed ~/.local/share/pileus/models/artefacts/smollm2-135m-instruct`
    """
    from msgspec import to_builtins

    from pileus.bootstrap.speed import measure_speed

    found = measure_speed(folder, options.encode(), tuple(together or (1, 32)), tokens)
    if json:
        output.json(to_builtins(found))
        return
    fields = {f"{requests} at once": f"{rate:,.1f} tokens/s" for requests, rate in found.tokens_per_s.items()}
    output.fields(fields | {"memory": output.size(found.memory_bytes)})
