"""`pileus adapters`: low-rank changes to a model, served as `deployment:adapter` beside it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.config import load
from pileus.cli.options import DEFAULT_URL, Config, Data, Json, Url, Yes
from pileus.cli.progress import Bars

app = typer.Typer(help="Serve adapters (LoRA) beside a model, without a restart.", no_args_is_help=True)

Deployment = Annotated[str, typer.Argument(help="The deployment's name, as `pileus status` shows it.")]
Name = Annotated[str, typer.Argument(help="Requests ask for DEPLOYMENT:NAME.")]


@app.command("list")
def list_adapters(deployment: Deployment, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """List the adapters of a deployment.

    Example: `pileus adapters list chat`
    """
    with Client(url) as client:
        adapters: list[dict[str, Any]] = client.get(_path(deployment))["data"]
    if json:
        output.json(adapters)
        return
    output.table(
        ("MODEL", "ARTEFACT", "FOR", "SERVED"),
        ((each["model"], each["artefact"], each["tenant"] or "everybody", each["error"] or "yes") for each in adapters),
    )


@app.command("add")
def add(
    deployment: Deployment,
    name: Name,
    artefact: Annotated[str, typer.Argument(help="An installed adapter (`pileus adapters import`, or a job's).")],
    tenant: Annotated[str, typer.Option(help="Who may use it; everybody where it is not given.")] = "",
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Serve an installed adapter on every replica; another one under this name is replaced.

    Example: `pileus adapters add chat support support-v1 --tenant acme`
    """
    with Client(url) as client:
        added = client.put(f"{_path(deployment)}/{name}", {"artefact": artefact, "tenant": tenant})
    if json:
        output.json(added)
    else:
        output.line(f"{added['model']} is served with {artefact}.")


@app.command("remove")
def remove(deployment: Deployment, name: Name, yes: Yes = False, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Serve it no more. What runs with it goes on; the artefact stays installed.

    Example: `pileus adapters remove chat support --yes`
    """
    if not yes:
        typer.confirm(f"Remove {deployment}:{name}?", abort=True, err=True)
    with Client(url) as client:
        removed = client.delete(f"{_path(deployment)}/{name}")
    if json:
        output.json(removed)
    else:
        output.line(f"{deployment}:{name} is not served any more.")


@app.command("import")
def import_adapter(
    path: Annotated[Path, typer.Argument(help="A folder that PEFT's `save_pretrained` wrote.")],
    name: Annotated[str, typer.Argument(help="What the artefact shall be called here.")],
    base: Annotated[str, typer.Option(help="The installed model that it was trained on.")],
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check an adapter of your own and install it on this machine.

    Example: `pileus adapters import ./lora support-v1 --base smollm2-135m-instruct`
    """
    from pileus.bootstrap.local import import_adapter

    with Bars() as bars:
        artefact = import_adapter(load(config, {"data_dir": data}).settings, path, name, base, bars)
    if json:
        output.json({"name": name, "base": base, "path": str(artefact.path)})
    else:
        output.line(f"{name} is installed in {artefact.path}")


def _path(deployment: str) -> str:
    return f"/admin/v1/deployments/{deployment}/adapters"
