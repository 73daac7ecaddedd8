"""Who still needs a model of a data folder: what is on record there, the settings, and the adapters beside it.

Only that can be seen. A server that runs with other settings may serve more, and a job may be reading it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pileus.bootstrap.local import open_catalogue
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pileus.config.load import Loaded
    from pileus.config.settings import Settings
    from pileus.store.adapter_table import StoredAdapter
    from pileus.store.tables import StoredDeployment

_SHOWN: Final = 5  # uses


class Use(Struct, frozen=True):
    """What needs the model, and what to do before the model goes."""

    who: str
    first: str


class _Record(Struct, frozen=True):
    deployments: "Sequence[StoredDeployment]" = ()  # those of run time
    adapters: "Sequence[StoredAdapter]" = ()
    is_owned: bool = False  # by a process that runs


def demand_unused(loaded: "Loaded", name: str) -> None:
    """Raises `OperatorError` where an installed model is still needed, as far as can be seen from here."""
    if uses := list(uses_of(loaded, name)):
        told = [f"{use.who} ({use.first} first)" for use in uses[:_SHOWN]]
        more = [f"and {len(uses) - _SHOWN} more"] if len(uses) > _SHOWN else []
        raise OperatorError(f"{name} is still needed: {'; '.join(told + more)}; or force it (`--force`)")


def uses_of(loaded: "Loaded", name: str) -> Iterator[Use]:
    """Deployments that serve it, deployments that serve it as an adapter, adapters that were made for it."""
    from pileus.fleet.plan import revived

    record, settled = _on_record(loaded.settings), loaded.settings.deployment
    deployed = revived(settled, record.deployments)
    yield from _settled(loaded, name, is_owned=record.is_owned)
    for each in deployed:
        if each.model == name:
            yield Use(f"the deployment {each.name} serves it", f"`pileus undeploy {each.name}`")
    known = {each.name for each in (*settled, *deployed)}
    for row in record.adapters:
        if row.artefact == name and (record.is_owned or row.deployment in known):
            yield Use(
                f"it is served as {row.deployment}:{row.name}", f"`pileus adapters remove {row.deployment} {row.name}`"
            )
    for adapter in open_catalogue(loaded.settings).adapters_of(name):
        yield Use(f"the adapter {adapter} is made for it", f"`pileus models rm {adapter}`")


def _settled(loaded: "Loaded", name: str, *, is_owned: bool) -> Iterator[Use]:
    """Of the settings. What nobody wrote there counts only while somebody serves."""
    from pileus.config.load import DEFAULT, origin_of

    for each in loaded.settings.deployment:
        origin = origin_of(f"deployment.{each.name}.model", loaded.origin)
        if each.model != name:
            continue
        if origin != DEFAULT:
            yield Use(f"the deployment {each.name} serves it", f"take it out of {origin}")
        elif is_owned:
            yield Use(f"the deployment {each.name} of the server that runs serves it", "stop that server")


def _on_record(settings: "Settings") -> _Record:
    """Also while a server owns the data folder: its database is only read."""
    from pileus.store.owner import FolderOwned
    from pileus.store.sqlite import DATABASE_FILE, SqliteStore, look

    if not (settings.data_dir / DATABASE_FILE).exists():
        return _Record()
    try:
        store = SqliteStore.open(settings.data_dir)
    except FolderOwned:
        return look(settings.data_dir, lambda tx: _read(tx, is_owned=True))
    try:
        return store.read_blocking(lambda tx: _read(tx, is_owned=False))
    finally:
        store.close()


def _read(tx: "Connection", *, is_owned: bool) -> _Record:
    from pileus.store.adapter_table import AdapterTable
    from pileus.store.tables import DeploymentTable

    return _Record(DeploymentTable().all(tx), AdapterTable().all(tx), is_owned)
