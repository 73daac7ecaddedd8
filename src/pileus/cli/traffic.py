"""`pileus promote`, `rollback` and `traffic`: which deployment a public name means."""

import time
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url
from pileus.cli.progress import Bars

_PATH = "/admin/v1/traffic"
_LOOK_S = 0.5
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Name = Annotated[str, typer.Argument(help="What requests ask for, as their `model`.")]


def promote(
    name: Name,
    to: Annotated[str, typer.Option("--to", help="The deployment that is to answer.")],
    canary: Annotated[str, typer.Option(help="First only so many of the requests: 10%.")] = "",
    watch: Annotated[str, typer.Option(help="How long a canary is watched in all: 10m, 2h.")] = "10m",
    least: Annotated[int, typer.Option("--least-requests", min=0, help="A canary's in each step, at least.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate has said of it, or not. Audited.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the canary is whole, or rolled back.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Let a deployment answer for a name. With --canary it has a share of the requests first, then twice that, and so
    on; where it fails more often or begins later than the one before, it is rolled back by itself.

    Where the name is answered already, its model must have passed the gate beside the one that answers (`pileus gate`),
    by margins that the settings bound (`gate.*`).

    Example: `pileus promote chat --to chat-v2 --canary 10% --watch 10m`
    """
    wish: dict[str, Any] = {"to": to, "watch_s": _seconds(watch), "least_requests": least, "force": force}
    if canary:
        wish["canary"] = _share(canary)
    with Client(url) as client:
        found = client.put(f"{_PATH}/{name}", wish)
        if wait:
            found = _watch(client, name)
    _tell(found, json=json)
    if wait and found["traffic"]["arms"][0]["deployment"] != to:
        raise typer.Exit(1)


def rollback(name: Name, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """End a canary, or undo the last promotion of a name.

    Example: `pileus rollback chat`
    """
    with Client(url) as client:
        _tell(client.post(f"{_PATH}/{name}/rollback", {}), json=json)


def traffic(
    remove: Annotated[str, typer.Option("--remove", help="A name that is to be one as any other.")] = "",
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Show the public names and who answers for them.

    Example: `pileus traffic`
    """
    with Client(url) as client:
        if remove:
            client.delete(f"{_PATH}/{remove}")
        found = client.get(_PATH)["data"]
    if json:
        output.json(found)
        return
    output.table(
        ("NAME", "ANSWERED BY", "CANARY", "STEP", "NOTE"),
        [
            (
                each["traffic"]["name"],
                _arms(each),
                (each["traffic"]["canary"] or {}).get("candidate"),
                _step(each),
                each["traffic"]["said"],
            )
            for each in found
        ],
    )


def _watch(client: Client, name: str) -> dict[str, Any]:
    with Bars() as bars:
        while (found := client.get(f"{_PATH}/{name}"))["traffic"]["canary"] is not None:
            canary = found["traffic"]["canary"]
            weights = canary["plan"]["weights"]
            title = f"{canary['candidate']} at {weights[canary['step']]:.0%}, {found['answered']} answered"
            bars(title, canary["step"], len(weights))
            time.sleep(_LOOK_S)
    return dict(found)


def _tell(found: dict[str, Any], *, json: bool) -> None:
    if json:
        output.json(found)
        return
    traffic = found["traffic"]
    note = f" ({traffic['said']})" if traffic["said"] else ""
    output.line(f"{traffic['name']} is answered by {_arms(found)}{note}.")


def _arms(found: dict[str, Any]) -> str:
    arms = found["traffic"]["arms"]
    if len(arms) == 1:
        return str(arms[0]["deployment"])
    return ", ".join(f"{arm['deployment']} {arm['weight']:.0%}" for arm in arms)


def _step(found: dict[str, Any]) -> str:
    canary = found["traffic"]["canary"]
    return f"{canary['step'] + 1} of {len(canary['plan']['weights'])}" if canary else ""


def _share(text: str) -> float:
    """`10%`, or `0.1`."""
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share < 1:
        raise typer.BadParameter(f"{text!r} is no share like 10%", param_hint="--canary")
    return share


def _seconds(text: str) -> float:
    """`90s`, `10m`, `2h`, `1d`."""
    try:
        return float(text[:-1]) * _UNITS[text[-1:]]
    except (ValueError, KeyError):
        raise typer.BadParameter(f"{text!r} is no duration like 10m", param_hint="--watch") from None
