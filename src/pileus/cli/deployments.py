"""`pileus deploy`, `undeploy`, `scale`, `restart` and `logs`: what a running server serves, and with how many replicas.

The server carries each act out by itself; the command watches it. Ctrl-C ends the watching, not the act.
"""

import time
from json import JSONDecodeError, loads
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url, Yes
from pileus.cli.progress import Bars
from pileus.core.errors import OperatorError

_PATH = "/admin/v1/deployments"
_LOOK_S = 0.25  # between two looks at an act

Name = Annotated[str, typer.Argument(help="The deployment's name, as `pileus status` shows it.")]
Least = Annotated[int | None, typer.Option("--min", min=0, max=64, help="Fewest replicas when it scales by itself.")]
Most = Annotated[int | None, typer.Option("--max", min=1, max=64, help="Most replicas when it scales by itself.")]

LongTexts = Annotated[
    str, typer.Option(help="What an encoder does with texts that are longer than it takes: `refuse`, or by `segments`.")
]


def deploy(
    name: Annotated[str, typer.Argument(help="What requests shall call it.")],
    model: Annotated[str, typer.Argument(help="A model of the catalogue (`pileus models list`).")],
    replicas: Annotated[int, typer.Option(min=0, max=64, help="Processes that serve it; 0 sleeps.")] = 1,
    least: Least = None,
    most: Most = None,
    engine: Annotated[str, typer.Option(help="The engine that runs it; `auto` is that of the model's kind.")] = "auto",
    alias: Annotated[list[str] | None, typer.Option(help="A further name; may be given again.")] = None,
    long_texts: LongTexts = "refuse",
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="An engine's option, NAME=VALUE.")] = None,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Serve a model under a name, without a restart of the server; or change a deployment, one replica after another.

    Example: `pileus deploy chat smollm2-135m-instruct --replicas 2 -o max_sequences=32`
    """
    wish = {
        "name": name,
        "model": model,
        "engine": engine,
        "replicas": replicas,
        "min_replicas": least,
        "max_replicas": most,
        "aliases": alias or [],
        "long_texts": long_texts,
        "options": dict(map(_option, option or [])),
    }
    with Client(url) as client:
        client.put(f"{_PATH}/{name}", wish)
        _tell(_watch(client, name), json, "serves {model} with {ready} of {desired} replicas")


def undeploy(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Also where a public name leads to it.")] = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Serve it no more: it finishes what it has, and is forgotten.

    Example: `pileus undeploy chat --yes`
    """
    if not yes:
        typer.confirm(f"Undeploy {name}?", abort=True)
    with Client(url) as client:
        note = client.delete(f"{_PATH}/{name}" + ("?force=true" if force else "")).get("note")
        _watch(client, name)
    if note:
        output.note(f"Note: {note}.")
    if json:
        output.json({"name": name, "undeployed": True})
    else:
        output.line(f"{name} is undeployed.")


def scale(
    name: Name,
    replicas: Annotated[int, typer.Argument(min=0, max=64, help="How many; 0 sleeps until somebody asks.")],
    least: Least = None,
    most: Most = None,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Serve it with more replicas or fewer. It stays there, unless --min or --max lets it scale by itself.

    Example: `pileus scale chat 2 --min 1 --max 4`
    """
    wish = {"replicas": replicas, "min_replicas": least, "max_replicas": most}
    with Client(url) as client:
        client.patch(f"{_PATH}/{name}", wish)
        _tell(_watch(client, name), json, "has {ready} of {desired} replicas")


def restart(name: Name, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Replace every replica, one by one; answers that are being made go on.

    Example: `pileus restart chat`
    """
    with Client(url) as client:
        client.post(f"{_PATH}/{name}/restart", {})
        _tell(_watch(client, name), json, "has new replicas: {ready} of {desired}")


def logs(
    name: Annotated[str, typer.Argument(help="A deployment, or one of its replicas: `chat` or `chat/0`.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000, help="How many of each replica.")] = 100,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Show what the replicas printed last.

    Example: `pileus logs chat/0 --lines 20`
    """
    deployment = name.partition("/")[0]
    with Client(url) as client:
        found = client.get(f"{_PATH}/{deployment}/logs?lines={lines}")["data"]
    chosen = [each for each in found if name in (deployment, each["replica"])]
    if not chosen and name != deployment:
        raise OperatorError(f"there is no replica {name}; there is: {', '.join(each['replica'] for each in found)}")
    if json:
        output.json(chosen)
        return
    if not any(each["lines"] for each in chosen):
        output.note(f"{name} has printed nothing so far.")
    for each in chosen:
        for line in each["lines"]:
            output.line(line if len(chosen) == 1 else f"{each['replica']}  {line}")


def _watch(client: Client, name: str) -> dict[str, Any] | None:
    """The deployment when the act on it has ended; None when it is gone by then. Raises why the act failed."""
    with Bars() as bars:
        while (found := client.find(f"{_PATH}/{name}")) is not None:
            act: dict[str, Any] = found["act"] or {"ended": True, "error": ""}
            if act.get("stage"):
                bars(f"{act['stage']} {name}", act["done"], act["total"])
            if act["ended"]:
                if act["error"]:
                    raise OperatorError(act["error"])
                return dict(found)
            time.sleep(_LOOK_S)
    return None


def _tell(found: dict[str, Any] | None, json: bool, sentence: str) -> None:
    if found is None:
        raise OperatorError("the deployment was undeployed meanwhile")
    if json:
        output.json(found)
    else:
        output.line(f"{found['name']} {sentence.format_map(found)}.")


def _option(text: str) -> tuple[str, Any]:
    """`max_sequences=32`; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, loads(value)
    except JSONDecodeError:
        return name, value
