"""`pileus train` and `pileus tune`: a model from data, on a running server or by itself.

With a key (`PILEUS_API_KEY`) the running server does it. Without one, a server is started for it, and ended with it.
Data files are paths on the server's machine.
"""

import os
import tomllib
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import KEY_VARIABLE, Client
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.serving import server
from pileus.cli.watch import JOBS_PATH, begin_job, demand_success, watch_job
from pileus.core.errors import OperatorError
from pileus.training.spec import RECIPES

_MOST_POINTS = 5000

RecipeName = Annotated[
    str | None, typer.Argument(help="One of `pileus train --list`, or a TOML file with the fields of a run.")
]
Files = Annotated[list[str] | None, typer.Option("--data-file", "-d", help="What to learn from; several may be given.")]
Validation = Annotated[list[str] | None, typer.Option("--validation", help="What is held out; else part of the data.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="A field of the run, NAME=VALUE.")]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Of the model that is made; else the recipe's.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for its end; `pileus jobs show` follows it.")]


def train(
    recipe: RecipeName = None,
    data_file: Files = None,
    validation: Validation = None,
    name: Name = None,
    set_: Sets = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the recipes.")] = False,
    detach: Detach = False,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Train a model by a recipe. Killed at any step, it goes on from its last checkpoint.

    Example: `pileus train gpt -d corpus.txt --set steps=500 --set width=128`

    Example: `pileus train classifier -d reviews.jsonl --set base=bert-0a1b2c --set epochs=3`

    Example: `pileus train run.toml --name tiny`
    """
    if list_:
        _list(json=json)
        return
    spec = _spec(recipe, data_file, validation, name, set_)
    _run("train", spec, url, data, config, alone=alone, detach=detach, json=json)


def tune(
    recipe: RecipeName = None,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", "-s", help="FIELD=low:high[:log], FIELD=low:high:step, or FIELD=this,that."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many values are tried.")] = 20,
    data_file: Files = None,
    validation: Validation = None,
    name: Name = None,
    set_: Sets = None,
    detach: Detach = False,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Search for the fields of a run that give the lowest validation loss, and keep the best model.

    Example: `pileus tune gpt -d corpus.txt -s rate=1e-4:1e-2:log -s batch=8,16,32 --trials 12 --set steps=200`
    """
    fields = dict(_pair(each, "--space") for each in space or [])
    spec = {"train": _spec(recipe, data_file, validation, name, set_), "space": fields, "trials": trials}
    _run("tune", spec, url, data, config, alone=alone, detach=detach, json=json)


def _list(*, json: bool) -> None:
    if json:
        output.json(RECIPES)
    else:
        output.table(("RECIPE", "WHAT IT TRAINS"), RECIPES.items())


def _spec(
    recipe: str | None,
    files: list[str] | None,
    validation: list[str] | None,
    name: str | None,
    sets: list[str] | None,
) -> dict[str, Any]:
    """The fields of the run: of a file, and of the command line, which has the last word."""
    if recipe is None:
        raise OperatorError("name a recipe: " + ", ".join(RECIPES))
    spec: dict[str, Any] = _read(Path(recipe)) if recipe.endswith(".toml") else {"recipe": recipe}
    if files:
        spec["data"] = [str(Path(file).resolve()) for file in files]
    if validation:
        spec["validation"] = [str(Path(file).resolve()) for file in validation]
    if name:
        spec["name"] = name
    spec |= _there({field: _value(text) for field, text in (_pair(each, "--set") for each in sets or [])}, Path())
    if not spec.get("data"):
        raise OperatorError("say with --data-file what to learn from")
    return spec


def _read(file: Path) -> dict[str, Any]:
    """Paths in it are meant from where it lies."""
    try:
        spec = tomllib.loads(file.read_text())
    except OSError as error:
        raise OperatorError(f"{file}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{file} is no TOML: {error}") from None
    for field in {"data", "validation"} & spec.keys():
        names = [spec[field]] if isinstance(spec[field], str) else spec[field]
        spec[field] = [str((file.parent / each).resolve()) for each in names]
    return _there(spec, file.parent)


def _there(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With the paths in it as the server finds them, which has another working folder; `base` may be a model's name."""
    found = {name: folder / str(fields[name]) for name in ("tokenizer", "base") if fields.get(name)}
    return fields | {name: str(path.resolve()) for name, path in found.items() if path.exists()}


def _run(
    kind: str,
    spec: dict[str, Any],
    url: str,
    data: Path | None,
    config: Path | None,
    *,
    alone: bool,
    detach: bool,
    json: bool,
) -> None:
    if detach and (alone or not os.environ.get(KEY_VARIABLE)):
        raise OperatorError(f"--detach needs a running server: start one with `pileus up`, and export {KEY_VARIABLE}")
    with server(url, data, config, alone=alone) as client:
        job = begin_job(client, kind, spec)
        if detach:
            _tell_begun(job, json=json)
            return
        job = watch_job(client, job["id"], "waiting", pauses=not client.lasts)
        demand_success(job)
        points = client.get(f"{JOBS_PATH}/{job['id']}/metrics?limit={_MOST_POINTS}")["data"]
        lines = client.get(f"{JOBS_PATH}/{job['id']}/logs?limit=1")["data"]
        if json:
            figures = points[-1]["values"] if points else {}
            output.json({"job": job, "figures": figures, "made": _made(client, job["id"])})
        else:
            output.line(lines[-1]["text"] if lines else f"{job['id']} has succeeded")


def _made(client: Client, job_id: str) -> list[dict[str, Any]]:
    """The versions that came of it."""
    models = client.get("/admin/v1/models")["data"]
    return [version for model in models for version in model["versions"] if version["job_id"] == job_id]


def _tell_begun(job: dict[str, Any], *, json: bool) -> None:
    if json:
        output.json(job)
    else:
        output.line(f"{job['id']} has begun; `pileus jobs show {job['id']} --watch` follows it.")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _value(text: str) -> Any:
    """A value that is no JSON is a text."""
    try:
        return loads(text)
    except JSONDecodeError:
        return text
