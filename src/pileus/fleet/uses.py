"""Who still needs a model of a data folder: what is on record there, the settings, and the adapters beside it.

Only that can be seen. A server that runs with other settings may serve more, and a job may be reading it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, inspect

from pileus.config.load import DEFAULT, Loaded, origin_of
from pileus.core.errors import OperatorError
from pileus.fleet.plan import revived
from pileus.store.adapter_table import AdapterTable, StoredAdapter
from pileus.store.tables import DeploymentTable, StoredDeployment

_SHOWN: Final = 5  # uses
_FORCE: Final = "or force it (`--force`)"


class Use(Struct, frozen=True):
    """What needs the model, and what to do before the model goes."""

    who: str
    first: str


class Record(Struct, frozen=True):
    """What a data folder says of those that are served."""

    deployments: Sequence[StoredDeployment] = ()  # those of run time
    adapters: Sequence[StoredAdapter] = ()


class Seen(Struct, frozen=True, kw_only=True):
    """All that can be seen of who needs a model."""

    loaded: Loaded
    record: Record
    is_owned: bool  # the folder, by a process that runs
    adapters: Sequence[str]  # those that were made for the model


def read_record(tx: Connection) -> Record:
    """Also of a database that was made by an older Pileus, and lacks what that one did not have."""
    tables = inspect(tx).get_table_names()
    return Record(
        DeploymentTable().all(tx) if "deployment" in tables else (),
        AdapterTable().all(tx) if "adapter" in tables else (),
    )


def demand_unused(name: str, seen: Seen) -> None:
    """Raises `OperatorError` where an installed model is still needed, as far as can be seen."""
    if uses := list(uses_of(name, seen)):
        told = [f"{use.who} ({use.first} first)" for use in uses[:_SHOWN]]
        more = [f"and {len(uses) - _SHOWN} more"] if len(uses) > _SHOWN else []
        raise OperatorError(f"{name} is still needed: {'; '.join(told + more)}; {_FORCE}")


def unseen(name: str, error: OperatorError) -> OperatorError:
    """For where nothing can be seen."""
    return OperatorError(f"who needs {name} is not known: {error.message}; {_FORCE}")


def uses_of(name: str, seen: Seen) -> Iterator[Use]:
    """Deployments that serve it, deployments that serve it as an adapter, adapters that were made for it."""
    settled = seen.loaded.settings.deployment
    deployed = revived(settled, seen.record.deployments)
    yield from _settled(name, seen)
    for each in deployed:
        if each.model == name:
            yield Use(f"the deployment {each.name} serves it", f"`pileus undeploy {each.name}`")
    known = {each.name for each in (*settled, *deployed)}
    for row in seen.record.adapters:
        if row.artefact == name and (seen.is_owned or row.deployment in known):
            yield Use(
                f"it is served as {row.deployment}:{row.name}", f"`pileus adapters remove {row.deployment} {row.name}`"
            )
    for adapter in seen.adapters:
        yield Use(f"the adapter {adapter} is made for it", f"`pileus models rm {adapter}`")


def _settled(name: str, seen: Seen) -> Iterator[Use]:
    """Of the settings. What nobody wrote there counts only while somebody serves."""
    for each in seen.loaded.settings.deployment:
        origin = origin_of(f"deployment.{each.name}.model", seen.loaded.origin)
        if each.model != name:
            continue
        if origin != DEFAULT:
            yield Use(f"the deployment {each.name} serves it", f"take it out of {origin}")
        elif seen.is_owned:
            yield Use(f"the deployment {each.name} of the server that runs serves it", "stop that server")
