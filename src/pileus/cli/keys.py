"""`pileus keys`: who may use the server.

With a key (`PILEUS_API_KEY`) the running server is asked. Without one, the data folder itself is opened, which works
only while no server owns it: so whoever owns the folder can always make a new admin key.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from pileus.cli import output
from pileus.cli.client import KEY_VARIABLE, Client
from pileus.cli.config import load
from pileus.cli.options import DEFAULT_URL, Config, Data, Json, Url, Yes
from pileus.core.records import PRIORITY_LIMIT, USUAL_LANES, Lane
from pileus.security.permission import Role

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

_PATH = "/admin/v1/keys"

Local = Annotated[
    bool, typer.Option("--local", help="Open the data folder, not a server; implied where PILEUS_API_KEY is not set.")
]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `pileus keys list` shows it.")]


class Keyring(Protocol):
    """Keys as plain records, wherever they are kept."""

    def create(self, wishes: dict[str, Any]) -> dict[str, Any]:
        """The new key's record, with its `secret`."""
        ...

    def list(self) -> list[dict[str, Any]]: ...

    def revoke(self, key_id: str) -> dict[str, Any]:
        """The key's record, as it is from then on."""
        ...


class ServerKeyring:
    """The keys of a running server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, wishes: dict[str, Any]) -> dict[str, Any]:
        created: dict[str, Any] = self._client.post(_PATH, wishes)
        return created

    def list(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = self._client.get(_PATH)["data"]
        return keys

    def revoke(self, key_id: str) -> dict[str, Any]:
        revoked: dict[str, Any] = self._client.delete(f"{_PATH}/{key_id}")
        return revoked


@contextmanager
def _keyring(*, local: bool, url: str, config: Path | None, data: Path | None) -> Iterator[Keyring]:
    if local or not os.environ.get(KEY_VARIABLE):
        from pileus.bootstrap.local import open_keyring

        with open_keyring(load(config, {"data_dir": data}).settings) as keyring:
            yield keyring
    else:
        with Client(url) as client:
            yield ServerKeyring(client)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.USER,
    tenant: Annotated[str, typer.Option(help="Whose it is; tenants share nothing.")] = "default",
    token_budget: Annotated[int | None, typer.Option(min=0, help="Most tokens it may use, ever.")] = None,
    budget_micros: Annotated[int | None, typer.Option(min=0, help="Most money it may use, in micro-units.")] = None,
    expires: Annotated[datetime | None, typer.Option(help="When it ends, in UTC.")] = None,
    lane: Annotated[
        list[Lane] | None, typer.Option(help="A lane that it may use; repeat it for more. Else on_demand and batch.")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=0, max=PRIORITY_LIMIT, help="The highest priority that its requests may have.")
    ] = 0,
    weight: Annotated[float, typer.Option(min=0, help="Its tenant's fair share against other tenants.")] = 1.0,
    tokens_per_s: Annotated[
        float, typer.Option(min=0, help="Tokens per second that its tenant is guaranteed in the continuous lane.")
    ] = 0.0,
    local: Local = False,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown once: only a fingerprint of it is kept.

    Examples: `pileus keys create laptop`, `pileus keys create ops --role admin --local`,
    `pileus keys create news --tenant news --lane on_demand --lane continuous --tokens-per-s 50`
    """
    wishes = {
        "name": name,
        "role": role.value,
        "tenant": tenant,
        "token_budget": token_budget,
        "budget_micros": budget_micros,
        "expires_at": expires.replace(tzinfo=UTC).timestamp() if expires else None,
        "lanes": [each.value for each in lane or USUAL_LANES],
        "max_priority": priority,
        "weight": weight,
        "tokens_per_s": tokens_per_s,
    }
    with _keyring(local=local, url=url, config=config, data=data) as keyring:
        created = keyring.create(wishes)
    if json:
        output.json(created)
    else:
        output.note(f"{created['name']} ({created['role']}, {created['id']}). The key is shown this once; keep it:")
        output.line(created["secret"])


@app.command("list")
def list_keys(
    local: Local = False, url: Url = DEFAULT_URL, config: Config = None, data: Data = None, json: Json = False
) -> None:
    """List the keys; never their secrets.

    Example: `pileus keys list`
    """
    with _keyring(local=local, url=url, config=config, data=data) as keyring:
        keys = keyring.list()
    if json:
        output.json(keys)
        return
    output.table(
        ("ID", "NAME", "ROLE", "TENANT", "CREATED", "EXPIRES", "TOKENS USED", "LANES", "SHARE", "STATE"),
        (
            (
                key["id"],
                key["name"],
                key["role"],
                key["tenant"],
                _date(key["created_at"]),
                _date(key["expires_at"]),
                _used(key),
                ",".join(key["lanes"]),
                _share(key),
                "revoked" if key["revoked_at"] else "active",
            )
            for key in keys
        ),
    )


@app.command("revoke")
def revoke(
    key_id: KeyId,
    yes: Yes = False,
    local: Local = False,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """End a key at once and for good.

    Example: `pileus keys revoke key_0123 --yes`
    """
    if not yes:
        typer.confirm(f"Revoke {key_id} for good?", abort=True, err=True)
    with _keyring(local=local, url=url, config=config, data=data) as keyring:
        revoked = keyring.revoke(key_id)
    if json:
        output.json(revoked)
    else:
        output.line(f"{key_id} is revoked.")


def _used(key: dict[str, Any]) -> str:
    used = str(key["used_tokens"])
    return used if key["token_budget"] is None else f"{used} of {key['token_budget']}"


def _share(key: dict[str, Any]) -> str:
    """The weight, and the guaranteed rate if there is one."""
    rate = f"+{key['tokens_per_s']:g}/s" if key["tokens_per_s"] else ""
    return f"{key['weight']:g}{rate}"


def _date(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") if at else ""
