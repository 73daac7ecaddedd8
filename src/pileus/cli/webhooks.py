"""`pileus webhooks`: which servers are told when a batch or a background request ends."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url, Yes
from pileus.core.errors import OperatorError

app = typer.Typer(help="Add, list, remove and test webhooks.", no_args_is_help=True)

_PATH = "/v1/webhooks"
_LOOK_S = 0.1  # between two looks at a delivery
_ENDED = ("succeeded", "failed", "cancelled", "expired")

WebhookId = Annotated[str, typer.Argument(help="The webhook's id, as `pileus webhooks list` shows it.")]


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where events are sent: https://...")],
    event: Annotated[list[str] | None, typer.Option(help="A type of event; repeat it for more. Else all.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of whom it is told; else of the key's own tenant.")] = None,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Tell a server of events, and show the secret that signs them. To add it again changes its events.

    Example: `pileus webhooks add https://example.com/pileus --event batch.completed`
    """
    wish = {"url": address, "tenant": tenant} | ({"events": event} if event else {})
    with Client(url) as client:
        added = client.post(_PATH, wish)
    if json:
        output.json(added)
    else:
        output.note(f"{added['id']} is told of {', '.join(added['events'])}. The secret by which it knows the sender:")
        output.line(added["secret"])


@app.command("list")
def list_webhooks(url: Url = DEFAULT_URL, json: Json = False) -> None:
    """List the webhooks; never their secrets.

    Example: `pileus webhooks list`
    """
    with Client(url) as client:
        found = client.get(_PATH)["data"]
    if json:
        output.json(found)
        return
    rows = ((each["id"], each["tenant"], _date(each["created_at"]), each["url"], _events(each)) for each in found)
    output.table(("ID", "TENANT", "CREATED", "ADDRESS", "EVENTS"), rows)


@app.command("remove")
def remove(webhook_id: WebhookId, yes: Yes = False, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Tell a server no more.

    Example: `pileus webhooks remove wh_0123 --yes`
    """
    if not yes:
        typer.confirm(f"Remove {webhook_id}?", abort=True, err=True)
    with Client(url) as client:
        removed = client.delete(f"{_PATH}/{webhook_id}")
    if json:
        output.json(removed)
    else:
        output.line(f"{webhook_id} is removed.")


@app.command("test")
def send_test(webhook_id: WebhookId, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Send a server an event of the type `webhook.test`, and tell what it says.

    Example: `pileus webhooks test wh_0123`
    """
    with Client(url) as client:
        delivery = client.post(f"{_PATH}/{webhook_id}/test", {})
        while delivery["state"] not in _ENDED or not delivery["log"]:
            time.sleep(_LOOK_S)
            delivery = client.get(f"{_PATH}/{webhook_id}/deliveries/{delivery['id']}")
    if json:
        output.json(delivery)
        return
    told = delivery["log"][-1]["text"]
    if delivery["state"] != "succeeded":
        raise OperatorError(told)
    output.line(told)


def _events(webhook: dict[str, Any]) -> str:
    return ", ".join(webhook["events"])


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
