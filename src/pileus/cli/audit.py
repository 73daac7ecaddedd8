"""`pileus audit`: who did what on the server, and what it refused."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url


def audit(
    action: Annotated[str | None, typer.Option(help="Only this one, such as `key.create` or `request.refuse`.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many events.")] = 50,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Show who did what and what was refused, newest first.

    Example: `pileus audit --action request.refuse`
    """
    wanted: dict[str, str | int] = {"limit": limit}
    if action is not None:
        wanted["action"] = action
    with Client(url) as client:
        events = client.get(f"/admin/v1/audit?{urlencode(wanted)}")["data"]
    if json:
        output.json(events)
        return
    output.table(
        ("AT (UTC)", "ACTOR", "TENANT", "ACTION", "TARGET", "OUTCOME", "REQUEST"),
        (
            (
                datetime.fromtimestamp(event["at"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
                event["actor"],
                event["tenant"],
                event["action"],
                event["target"],
                event["outcome"],
                event["request_id"],
            )
            for event in events
        ),
    )
