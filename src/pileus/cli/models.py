"""`pileus models`: the models on this machine, those that can be had, and their versions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileus.cli import output, registry
from pileus.cli.config import load
from pileus.cli.options import Config, Data, Json, Yes
from pileus.cli.progress import Bars

if TYPE_CHECKING:
    from pileus.models.catalogue import Catalogue, ModelEntry

app = typer.Typer(help="List, get, inspect, compare, promote, share and remove models.", no_args_is_help=True)
app.command("versions")(registry.versions)
app.command("tag")(registry.tag)
app.command("card")(registry.card)
app.command("sign")(registry.sign)
app.command("diff")(registry.diff)
app.command("lineage")(registry.lineage)

Name = Annotated[str, typer.Argument(help="Name of the model, as `pileus models list` shows it.")]


@app.command("list")
def list_models(config: Config = None, data: Data = None, json: Json = False) -> None:
    """List the models that are installed and those that can be pulled.

    Example: `pileus models list`
    """
    entries = _catalogue(config, data).list()
    if json:
        _print_json(entries)
        return
    output.table(
        ("MODEL", "INSTALLED", "SIZE", "CONTEXT", "LICENCE", "WHAT IT IS"),
        (
            (
                entry.name,
                "yes" if entry.installed else "",
                output.size(entry.disk_bytes or entry.download_bytes),
                entry.context_length,
                entry.licence,
                entry.summary,
            )
            for entry in entries
        ),
    )


@app.command("show")
def show(name: Name, config: Config = None, data: Data = None, json: Json = False) -> None:
    """Show what is known about one model.

    Example: `pileus models show smollm2-135m-instruct`
    """
    entry = _catalogue(config, data).show(name)
    if json:
        _print_json(entry)
        return
    output.fields(
        {
            "name": entry.name,
            "what it is": entry.summary,
            "licence": entry.licence,
            "languages": ", ".join(entry.languages),
            "context": f"{entry.context_length} tokens",
            "download": output.size(entry.download_bytes) if entry.download_bytes else "",
            "installed": f"{output.size(entry.disk_bytes)} in {entry.path}" if entry.installed else "no",
        }
    )


@app.command("pull")
def pull(name: Name, config: Config = None, data: Data = None, json: Json = False) -> None:
    """Download a model, check it and make it ready to serve. An interrupted pull goes on where it stopped.

    Example: `pileus models pull smollm2-135m-instruct`
    """
    catalogue = _catalogue(config, data)
    with Bars() as bars:
        artefact = catalogue.ensure(name, bars)
    if json:
        _print_json(catalogue.show(name))
    else:
        output.line(f"{name} is installed in {artefact.path}")


@app.command("import")
def import_model(
    path: Annotated[Path, typer.Argument(help="A GGUF file, or a Hugging Face or OpenVINO folder.")],
    name: Annotated[str, typer.Argument(help="What it shall be called here.")],
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a model of your own ready to serve.

    Example: `pileus models import ./my-model.gguf my-model`
    """
    catalogue = _catalogue(config, data)
    with Bars() as bars:
        artefact = catalogue.import_folder(path, name, bars)
    if json:
        _print_json(catalogue.show(name))
    else:
        output.line(f"{name} is installed in {artefact.path}")


@app.command("rm")
def remove(name: Name, yes: Yes = False, config: Config = None, data: Data = None, json: Json = False) -> None:
    """Delete a model from this machine.

    Example: `pileus models rm smollm2-135m-instruct --yes`
    """
    catalogue = _catalogue(config, data)
    entry = catalogue.show(name)
    if not yes:
        typer.confirm(f"Delete {name} ({output.size(entry.disk_bytes)})?", abort=True, err=True)
    catalogue.remove(name)
    if json:
        output.json({"name": name, "deleted": True})
    else:
        output.line(f"{name} is deleted.")


def _catalogue(config: Path | None, data: Path | None) -> "Catalogue":
    from pileus.bootstrap.local import open_catalogue

    return open_catalogue(load(config, {"data_dir": data}).settings)


def _print_json(entry: "ModelEntry | list[ModelEntry]") -> None:
    from msgspec import to_builtins

    output.json(to_builtins(entry))
