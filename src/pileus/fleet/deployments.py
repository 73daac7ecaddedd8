"""What operators change at run time: checked, written down with its author, then done.

What was deployed here is kept in the store, and starts again with the server, unless the settings name a deployment of
the same name. What the settings name can be changed too, until the next start.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
from sqlalchemy import Connection

from pileus.config.settings import Deployment as Wanted
from pileus.core.clock import Clock
from pileus.core.errors import ConfigError, InvalidRequest, NotFound, PileusError
from pileus.core.records import AuditEvent, Principal
from pileus.fleet.acts import Act, Acts
from pileus.fleet.controller import Fleet
from pileus.fleet.memory import Footprint, shortage
from pileus.fleet.plan import policy_of, rescaled
from pileus.fleet.records import Deployment, DeploymentInfo, DeploymentStatus
from pileus.fleet.timeline import EventKind
from pileus.models.progress import Progress
from pileus.store.port import Store
from pileus.store.tables import AuditTable, DeploymentTable, StoredDeployment

log = structlog.get_logger(__name__)


class Workshop(Protocol):
    """Makes what the fleet can run of what an operator wants."""

    def with_engine(self, wanted: Wanted) -> Wanted:
        """With its engine named. Raises `InvalidRequest` where there is no such engine or model, or the one cannot run
        the other."""
        ...

    def check(self, wanted: Wanted) -> Footprint:
        """What one replica will take. Raises `InvalidRequest` for an engine, a model or options that there are not."""
        ...

    async def make(self, wanted: Wanted, progress: Progress) -> Deployment:
        """With the model fetched, if it was not here. Raises `OperatorError`."""
        ...


class Deployments:
    """The acts of operators. For one event loop."""

    def __init__(
        self,
        fleet: Fleet,
        settled: Iterable[Wanted],
        stored: Iterable[Wanted],
        *,
        store: Store,
        workshop: Workshop,
        available: Callable[[], int],
        clock: Clock,
    ) -> None:
        self.acts = Acts(self._on_failed)
        self._fleet = fleet
        self._wanted = {wanted.name: wanted for wanted in (*stored, *settled)}
        self._settled = frozenset(wanted.name for wanted in settled)
        self._kept = {wanted.name for wanted in stored}
        self._store = store
        self._workshop = workshop
        self._available = available
        self._clock = clock
        self._table = DeploymentTable()
        self._audit = AuditTable()

    # --- what is seen ---------------------------------------------------------------------------------------------

    def all(self) -> Sequence[DeploymentStatus]:
        """Also those that are being made ready for their first replica."""
        running = self._fleet.status()
        names = {status.info.name for status in running}
        return running + [_to_come(wanted) for wanted in self._wanted.values() if wanted.name not in names]

    def get(self, name: str) -> DeploymentStatus:
        """Raises `NotFound`."""
        found = next((status for status in self.all() if status.info.name == name), None)
        if found is None:
            raise self._missing(name)
        return found

    def in_settings(self, name: str) -> bool:
        """Whether the settings name it: then the next start begins with what they say."""
        return name in self._settled

    def tails(self, name: str) -> dict[str, list[str]]:
        """The last lines that each of its replicas printed. Raises `NotFound`."""
        return dict(self._fleet.tails(name))

    # --- what is done ---------------------------------------------------------------------------------------------

    async def deploy(self, wanted: Wanted, by: Principal) -> Act:
        """Run it, or change it to this. Raises `InvalidRequest` for what cannot run, with the reason."""
        before = self._wanted.get(wanted.name)
        if before is not None and before.model != wanted.model:
            raise InvalidRequest(
                f"{wanted.name} serves {before.model}: undeploy it first, or deploy {wanted.model} under another name",
                param="model",
            )
        wanted = self._workshop.with_engine(wanted)
        footprint = self._workshop.check(wanted)
        self._check_names(wanted)
        changed = before is not None and (before.engine, before.options) != (wanted.engine, wanted.options)
        more = max(wanted.replicas - (before.replicas if before else 0), 1 if changed else 0)
        self._check_room(wanted.name, more, footprint)
        await self._write(wanted, by, "deployment.deploy", wanted.name)

        async def work(progress: Progress) -> None:
            try:
                await self._fleet.deploy(await self._workshop.make(wanted, progress), progress, by=by.name)
            except PileusError:
                if before is not None:
                    await self._restore(before)
                raise

        self._wanted[wanted.name] = wanted
        return self.acts.begin(wanted.name, "deploy", work)

    async def scale(
        self, name: str, replicas: int, by: Principal, *, least: int | None = None, most: int | None = None
    ) -> Act:
        """So many replicas; between `least` and `most` it then scales by itself, without them it stays there."""
        now = self._known(name)
        wanted = rescaled(now, replicas, least, most)
        deployment = self._fleet.deployment(name)
        self._check_room(name, replicas - self.get(name).desired, deployment.footprint)
        await self._write(wanted, by, "deployment.scale", f"{name} to {replicas}")
        self._wanted[name] = wanted

        async def work(progress: Progress) -> None:
            await self._fleet.scale(name, replicas, policy_of(wanted), progress, by=by.name)

        return self.acts.begin(name, "scale", work)

    async def restart(self, name: str, by: Principal) -> Act:
        """Replace every replica, one by one. Raises `NotFound`."""
        self._known(name)
        self._check_room(name, 1, self._fleet.deployment(name).footprint)
        await self._store.write(lambda tx: self._audit.insert(tx, [self._event(by, "deployment.restart", name)]))

        async def work(progress: Progress) -> None:
            await self._fleet.restart(name, progress, by=by.name)

        return self.acts.begin(name, "restart", work)

    async def undeploy(self, name: str, by: Principal) -> Act:
        """Let it finish what it has, and forget it. Raises `NotFound`."""
        self._known(name)
        event = self._event(by, "deployment.undeploy", name)

        def write(tx: Connection) -> None:
            self._table.delete(tx, name)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        self._kept.discard(name)
        self._wanted.pop(name, None)

        async def work(progress: Progress) -> None:
            if name in self._fleet.directory.deployments():  # else it never came so far
                await self._fleet.undeploy(name, progress, by=by.name)

        return self.acts.begin(name, "undeploy", work)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _known(self, name: str) -> Wanted:
        wanted = self._wanted.get(name)
        if wanted is None:
            raise self._missing(name)
        return wanted

    def _missing(self, name: str) -> NotFound:
        there = ", ".join(self._wanted) or "none"
        return NotFound(f"there is no deployment {name!r}; there is: {there}")

    def _check_names(self, wanted: Wanted) -> None:
        try:
            self._fleet.directory.check(wanted.name, wanted.aliases)
        except ConfigError as error:
            raise InvalidRequest(error.message, param="aliases") from None

    def _check_room(self, name: str, more: int, footprint: Footprint) -> None:
        if more > 0 and (reason := shortage(name, more, footprint, self._available())):
            raise InvalidRequest(reason)

    async def _write(self, wanted: Wanted, by: Principal, action: str, target: str) -> None:
        """On record before it is done, in one transaction. What the settings name is kept only once it was deployed."""
        event = self._event(by, action, target)
        keep = action == "deployment.deploy" or wanted.name in self._kept
        row = StoredDeployment(wanted.name, wanted.model_dump_json(), event.at, by.key_id)

        def write(tx: Connection) -> None:
            if keep:
                self._table.put(tx, row)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        if keep:
            self._kept.add(wanted.name)

    async def _restore(self, before: Wanted) -> None:
        """The change did not work: the next start shall not try it again."""
        self._wanted[before.name] = before
        row = StoredDeployment(before.name, before.model_dump_json(), self._clock.wall(), "system")
        await self._store.write(lambda tx: self._table.put(tx, row))

    def _on_failed(self, deployment: str, act: str, error: str) -> None:
        self._fleet.tell(deployment, EventKind(f"{act}_failed"), reason=error)

    def _event(self, by: Principal, action: str, target: str) -> AuditEvent:
        return AuditEvent(at=self._clock.wall(), actor=by.key_id, tenant=by.tenant, action=action, target=target)


def _to_come(wanted: Wanted) -> DeploymentStatus:
    info = DeploymentInfo(
        name=wanted.name,
        model=wanted.model,
        engine=wanted.engine,
        aliases=wanted.aliases,
        long_texts=wanted.long_texts,
    )
    return DeploymentStatus(info=info, replicas=(), desired=wanted.replicas)
