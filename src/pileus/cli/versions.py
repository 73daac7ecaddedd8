"""The registry as commands reach it: a running server's, or that of a data folder which no server owns.

With a key (`PILEUS_API_KEY`) the running server is asked. Without one, the data folder itself is opened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from pileus.cli.client import KEY_VARIABLE, Client
from pileus.cli.config import load
from pileus.core.errors import OperatorError

_PATH = "/admin/v1/models"
LATEST = "latest"


class Versions(Protocol):
    """Models and versions as plain records, wherever they are kept. A `ref` is a number, an alias or `latest`."""

    def models(self) -> list[dict[str, Any]]: ...

    def version(self, model: str, ref: str) -> dict[str, Any]: ...

    def card(self, model: str, ref: str) -> str: ...

    def set_stage(self, model: str, ref: str, stage: str) -> dict[str, Any]: ...

    def set_alias(self, model: str, alias: str, ref: str) -> dict[str, Any]: ...

    def drop_alias(self, model: str, alias: str) -> None: ...

    def describe(self, model: str, ref: str, said: dict[str, str]) -> dict[str, Any]: ...

    def sign(self, model: str, ref: str) -> dict[str, Any]: ...

    def diff(self, model: str, ref: str, other: tuple[str, str]) -> dict[str, Any]: ...

    def lineage(self, model: str, ref: str) -> dict[str, Any]:
        """Of all versions where `ref` is empty."""
        ...


class ServerVersions:
    """The registry of a running server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get(_PATH)["data"]
        return found

    def version(self, model: str, ref: str) -> dict[str, Any]:
        return dict(self._client.get(_version(model, ref)))

    def card(self, model: str, ref: str) -> str:
        with self._client.download(f"{_version(model, ref)}/card") as (_, parts):
            return b"".join(parts).decode()

    def set_stage(self, model: str, ref: str, stage: str) -> dict[str, Any]:
        return dict(self._client.put(f"{_version(model, ref)}/stage", {"stage": stage}))

    def set_alias(self, model: str, alias: str, ref: str) -> dict[str, Any]:
        return dict(self._client.put(f"{_model(model)}/aliases/{quote(alias, safe='')}", {"version": ref}))

    def drop_alias(self, model: str, alias: str) -> None:
        self._client.delete(f"{_model(model)}/aliases/{quote(alias, safe='')}")

    def describe(self, model: str, ref: str, said: dict[str, str]) -> dict[str, Any]:
        return dict(self._client.patch(f"{_version(model, ref)}/card", said))

    def sign(self, model: str, ref: str) -> dict[str, Any]:
        return dict(self._client.post(f"{_version(model, ref)}/sign", {}))

    def diff(self, model: str, ref: str, other: tuple[str, str]) -> dict[str, Any]:
        return dict(self._client.get(f"{_version(model, ref)}/diff?{urlencode({'with': '@'.join(other)})}"))

    def lineage(self, model: str, ref: str) -> dict[str, Any]:
        query = f"?{urlencode({'version': ref})}" if ref else ""
        return dict(self._client.get(f"{_model(model)}/lineage{query}"))


@contextmanager
def open_versions(url: str, config: Path | None, data: Path | None) -> Iterator[Versions]:
    if os.environ.get(KEY_VARIABLE):
        with Client(url) as client:
            yield ServerVersions(client)
        return
    from pileus.bootstrap.local import open_local_registry

    with open_local_registry(load(config, {"data_dir": data}).settings) as registry:
        yield registry


def split(reference: str) -> tuple[str, str]:
    """`NAME@VERSION`; without a version it is the latest."""
    name, at, ref = reference.partition("@")
    if not name or (at and not ref):
        raise OperatorError(f"{reference!r} is no version of a model: NAME, NAME@3 or NAME@production")
    return name, ref or LATEST


def _model(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _version(model: str, ref: str) -> str:
    return f"{_model(model)}/versions/{quote(ref, safe='')}"
