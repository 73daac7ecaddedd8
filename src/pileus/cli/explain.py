"""`pileus explain attention`: where a model looks as it reads a text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.evaluating import run_job
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.serving import server
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.evaluation.attention_records import AttentionResult

app = typer.Typer(help="See how models work.", no_args_is_help=True)

_MOST_PANELS = 64


@app.command("attention")
def attention(
    text: Annotated[str, typer.Argument(help="What the model reads, up to 64 tokens.")] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the catalogue.")] = "smollm2-135m-instruct",
    layer: Annotated[
        list[int] | None, typer.Option(help="From 0 on; again for more. Without it: the last one.")
    ] = None,
    head: Annotated[list[int] | None, typer.Option(help="From 0 on; again for more. Without it: all.")] = None,
    png: Annotated[Path | None, typer.Option("--png", "-o", help="Where the heat maps go.")] = None,
    worked: Annotated[bool, typer.Option("--worked", help="A small example instead, with every number.")] = False,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Draw how much each token of a text looks at each token before it (in a BERT: at every token); or work attention
    through by hand.

    Example: `pileus explain attention "The cat sat because it was tired." --layer 12 --png attention.png`

    Example: `pileus explain attention --worked`
    """
    if worked:
        _show_worked(png, json=json)
        return
    import msgspec

    from pileus.evaluation.attention_records import AttentionResult

    if not text:
        raise OperatorError("there is no text: give one, or ask for --worked")
    if png is not None:
        _demand_matplotlib()
        png.parent.mkdir(parents=True, exist_ok=True)  # before anything is computed
    spec: dict[str, Any] = {"model": model, "text": text, "layers": layer or [], "heads": head or []}
    with server(url, data, config, alone=alone, names=()) as client:
        raw = run_job(client, "attention", spec, "computing")
    found = msgspec.convert(raw, AttentionResult, strict=False)
    if layer is None:
        found = msgspec.structs.replace(found, maps=tuple(m for m in found.maps if m.layer == found.layers - 1))
    if png is not None:
        draw(found, png)
        output.note(f"saved: {png}")
    if json:
        output.json(_plain(found))
    elif png is None:
        _tell(found)


def draw(found: "AttentionResult", path: Path) -> None:
    """One panel for each map. Raises `OperatorError` where there are too many, or matplotlib is not there."""
    _demand_matplotlib()
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    from matplotlib import pyplot

    if len(found.maps) > _MOST_PANELS:
        raise OperatorError(f"{len(found.maps)} maps do not fit into one picture: choose --layer or --head")
    size = len(found.tokens)
    columns = min(len(found.maps), 3)
    rows = -(-len(found.maps) // columns)
    side = 1.5 + 0.22 * size
    figure, axes = pyplot.subplots(rows, columns, figsize=(columns * side, rows * side), squeeze=False)
    names = [token.replace("\n", "\\n").replace("$", r"\$") for token in found.tokens]
    for axis, shown in zip(axes.flat, found.maps, strict=False):
        weights = np.frombuffer(shown.weights, np.uint8).reshape(size, size) / 255
        axis.imshow(weights, cmap="viridis", vmin=0, vmax=1)
        axis.set_title(f"layer {shown.layer}, head {shown.head}", fontsize=9)
        axis.set_xticks(range(size), names, rotation=90, fontsize=6)
        axis.set_yticks(range(size), names, fontsize=6)
    for axis in axes.flat[len(found.maps) :]:
        axis.axis("off")
    figure.suptitle(f"{found.model}: each row is a token that looks, each column one that is looked at", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _tell(found: "AttentionResult") -> None:
    """For each token of each map, where it looks most."""
    rows = []
    for shown in found.maps:
        size = len(found.tokens)
        for place in range(size):
            line = shown.weights[place * size : (place + 1) * size]
            best = max(range(size), key=line.__getitem__)
            looks = f"{found.tokens[best]!r} ({line[best] / 255:.0%})"
            rows.append((shown.layer, shown.head, repr(found.tokens[place]), looks))
    output.table(("LAYER", "HEAD", "TOKEN", "LOOKS MOST AT"), rows)


def _plain(found: "AttentionResult") -> dict[str, Any]:
    size = len(found.tokens)
    maps = [
        {
            "layer": shown.layer,
            "head": shown.head,
            "weights": [[round(value / 255, 3) for value in row] for row in _rows(shown.weights, size)],
        }
        for shown in found.maps
    ]
    return {
        "model": found.model,
        "tokens": found.tokens,
        "layers": found.layers,
        "heads": found.heads,
        "maps": maps,
    }


def _rows(weights: bytes, size: int) -> list[bytes]:
    return [weights[begin : begin + size] for begin in range(0, len(weights), size)]


def _show_worked(png: Path | None, *, json: bool) -> None:
    import msgspec

    from pileus.evaluation.attention_records import AttentionMap, AttentionResult
    from pileus.evaluation.worked import as_text, steps, work

    worked = work()
    if png is not None:
        png.parent.mkdir(parents=True, exist_ok=True)
        weights = bytes(round(255 * value) for row in worked.weights for value in row)
        tokens = tuple(f"token {number}" for number in range(1, len(worked.keys) + 1))
        shown = (AttentionMap(0, 0, weights),)
        draw(AttentionResult(model="worked example", tokens=tokens, layers=1, heads=1, maps=shown), png)
        output.note(f"saved: {png}")
    if json:
        output.json([msgspec.to_builtins(step) for step in steps(worked)])
    else:
        output.line(as_text(worked))


def _demand_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise OperatorError("--png needs matplotlib, of the `train` extra: run `make extras`")
