"""The server that a command speaks to: the running one, or one of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pileus.cli.client import KEY_VARIABLE, Client
from pileus.cli.config import load
from pileus.cli.progress import Bars


@contextmanager
def server(
    url: str,
    data: Path | None,
    config: Path | None,
    *,
    alone: bool = False,
    role: str = "admin",
    names: tuple[str, ...] | None = (),
) -> Iterator[Client]:
    """The running one, where there is a key and it is not to be `alone`; else one for this command, on which it has
    that role. That one deploys what the settings name if one of `names` is among it, and always with None."""
    if not alone and os.environ.get(KEY_VARIABLE):
        with Client(url) as client:
            yield client
        return
    from pileus.bootstrap.alone import serve_alone

    loaded = load(config, {"data_dir": data})
    offered = {name for each in loaded.settings.deployment for name in (each.name, *each.aliases)}
    deploys = names is None or bool(offered.intersection(names))
    with Bars() as bars, serve_alone(loaded, config, bars, role=role, deploys=deploys) as (own_url, secret):
        bars.finish()
        with Client(own_url, secret, lasts=False) as client:
            yield client
