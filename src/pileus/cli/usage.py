"""`pileus usage`: what each request used."""

from typing import Annotated

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Url

_PAGE = 10_000


def usage(
    after: Annotated[int, typer.Option(min=0, help="Begin after the request of this sequence number.")] = 0,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what each request used, as JSON lines, oldest first: counts and times, no text. `pileus simulate` reads it.

    Example: `pileus usage > usage.jsonl`
    """
    with Client(url) as client:
        while page := client.get(f"/admin/v1/usage?after={after}&limit={_PAGE}")["data"]:
            for entry in page:
                output.json_line(entry)
            after = page[-1]["sequence"]
