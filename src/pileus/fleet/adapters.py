"""Adapters that deployments serve as `deployment:name`: checked, written down with their author, then offered.

The table says what is served. Operators' acts write it; so may a job as it ends, whose row is picked up from there
(`on_job_ended`). On every replica first, offered then: a request never comes before its adapter.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog
from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, OperatorError, PileusError
from pileus.core.records import AuditEvent, Principal
from pileus.fleet.controller import Fleet
from pileus.fleet.records import Deployment, ServedAdapter
from pileus.store.adapter_table import AdapterTable, StoredAdapter
from pileus.store.job_table import Job
from pileus.store.port import Store
from pileus.store.tables import AuditTable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # no colon: it parts the name from the deployment's

log = structlog.get_logger(__name__)


class Finder(Protocol):
    """Finds the artefact of an adapter."""

    def find(self, artefact: str, model: str) -> tuple[str, str]:
        """Its id and its folder. Raises `OperatorError` where it is not installed or not for that model."""
        ...


class AdapterStatus(Struct, frozen=True):
    """One adapter, as operators see it."""

    row: StoredAdapter
    error: str = ""  # why it is not served; empty where it is


class Adapters:
    """For one event loop; acts come one after the other."""

    def __init__(self, fleet: Fleet, finder: Finder, *, store: Store, clock: Clock) -> None:
        self._fleet = fleet
        self._finder = finder
        self._store = store
        self._clock = clock
        self._table = AdapterTable()
        self._audit = AuditTable()
        self._turn = asyncio.Lock()
        self._rows: dict[tuple[str, str], StoredAdapter] = {}
        self._errors: dict[tuple[str, str], str] = {}
        self._stamp = (0, 0.0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.Task[None] | None = None
        fleet.on_opened.append(self._on_opened)

    def open(self) -> None:
        """Begin with what the table says, before the first replica does. Blocks."""
        self._loop = asyncio.get_running_loop()
        self._know(*self._store.read_blocking(self._read))
        for status in self._fleet.status():
            self._on_opened(self._fleet.deployment(status.info.name))

    # --- what is seen ---------------------------------------------------------------------------------------------

    def of(self, deployment: str) -> Sequence[AdapterStatus]:
        """By name. Raises `NotFound` for no deployment."""
        self._fleet.deployment(deployment)
        rows = (row for (owner, _), row in sorted(self._rows.items()) if owner == deployment)
        return [AdapterStatus(row, self._errors.get((deployment, row.name), "")) for row in rows]

    # --- what is done ---------------------------------------------------------------------------------------------

    async def add(self, deployment: str, name: str, artefact: str, tenant: str, by: Principal) -> AdapterStatus:
        """Serve an installed adapter, or another one under this name, on every replica. Raises `NotFound`, and
        `InvalidRequest` for an artefact that is not there or that a replica refuses."""
        if not NAME.fullmatch(name):
            words = "letters, digits and `.`, `_`, `-`, and begin with a letter or digit"
            raise InvalidRequest(f"`name` should have 1 to 128 {words}", param="name")
        async with self._turn:
            model = self._fleet.deployment(deployment).info.model
            at = self._clock.wall()
            row = StoredAdapter(
                deployment=deployment, name=name, artefact=artefact, tenant=tenant, created_at=at, created_by=by.key_id
            )
            served = await self._load(row, model)
            event = AuditEvent(
                at=at, actor=by.key_id, tenant=by.tenant, action="adapter.add", target=f"{deployment}:{name}"
            )

            def write(tx: Connection) -> tuple[int, float]:
                self._table.put(tx, row)
                self._audit.insert(tx, [event])
                return self._table.stamp(tx)

            try:
                self._stamp = await self._store.write(write)
            except PileusError:
                await self._let_go(deployment, served)
                raise
            await self._serve(row, served)
            return AdapterStatus(row)

    async def remove(self, deployment: str, name: str, by: Principal) -> None:
        """Serve it no more; what runs with it goes on. Raises `NotFound`."""
        async with self._turn:
            self._fleet.deployment(deployment)
            if (deployment, name) not in self._rows:
                raise NotFound(f"{deployment} has no adapter {name!r}")
            event = AuditEvent(
                at=self._clock.wall(),
                actor=by.key_id,
                tenant=by.tenant,
                action="adapter.remove",
                target=f"{deployment}:{name}",
            )

            def write(tx: Connection) -> tuple[int, float]:
                self._table.delete(tx, deployment, name)
                self._audit.insert(tx, [event])
                return self._table.stamp(tx)

            self._stamp = await self._store.write(write)
            await self._withdraw((deployment, name))

    def on_job_ended(self, tx: Connection, job: Job) -> None:
        """Meets `JobService.on_ended`: a row that a job writes as it ends is served soon."""
        if self._loop is not None and self._table.stamp(tx) != self._stamp:
            self._loop.call_soon_threadsafe(self._look_soon)

    async def refresh(self) -> None:
        """Bring what is served to what the table says, whoever wrote it."""
        async with self._turn:
            # By the thread that writes: it is done with the transaction that told of a change.
            before = self._rows
            rows, self._stamp = await self._store.write(self._read)
            for key in before.keys() - {(row.deployment, row.name) for row in rows}:
                await self._withdraw(key)
            for row in rows:
                if before.get((row.deployment, row.name)) != row:
                    await self._begin(row)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _read(self, tx: Connection) -> tuple[list[StoredAdapter], tuple[int, float]]:
        return self._table.all(tx), self._table.stamp(tx)

    def _know(self, rows: Iterable[StoredAdapter], stamp: tuple[int, float]) -> None:
        self._rows = {(row.deployment, row.name): row for row in rows}
        self._stamp = stamp

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            await self.refresh()
        except PileusError as error:
            log.error("adapters_not_refreshed", reason=error.message)

    def _on_opened(self, deployment: Deployment) -> None:
        """Its replicas are about to start: they shall have its adapters. What cannot be served is left out."""
        name, found = deployment.info.name, []
        for row in [row for (owner, _), row in self._rows.items() if owner == name]:
            try:
                found.append(self._find(row, deployment.info.model))
            except OperatorError as error:
                self._fail(row, error.message)
        self._fleet.adapters.expect(name, found)
        self._fleet.directory.put_adapters(name, found)

    def _find(self, row: StoredAdapter, model: str) -> ServedAdapter:
        adapter_id, path = self._finder.find(row.artefact, model)
        return ServedAdapter(name=row.name, id=adapter_id, artefact=row.artefact, path=path, tenant=row.tenant)

    async def _load(self, row: StoredAdapter, model: str) -> ServedAdapter:
        """Found, and on every replica. Raises `InvalidRequest`."""
        try:
            served = await asyncio.to_thread(self._find, row, model)
        except OperatorError as error:
            raise InvalidRequest(error.message, param="artefact") from None
        refused = await self._fleet.adapters.add(row.deployment, [served])
        if refused:
            raise InvalidRequest(f"{row.artefact} is refused: {refused[served.id]}", param="artefact")
        return served

    async def _begin(self, row: StoredAdapter) -> None:
        """Serve a row that another wrote."""
        self._rows[row.deployment, row.name] = row
        try:
            model = self._fleet.deployment(row.deployment).info.model
            await self._serve(row, await self._load(row, model))
        except NotFound:  # it is served once its deployment is there
            return
        except InvalidRequest as error:
            self._fail(row, error.message)

    async def _serve(self, row: StoredAdapter, served: ServedAdapter) -> None:
        """Offer what every replica has; what had its name goes."""
        before = self._fleet.directory.adapters(row.deployment)
        self._rows[row.deployment, row.name] = row
        self._errors.pop((row.deployment, row.name), None)
        await self._offer(row.deployment, {**before, row.name: served})
        log.info("adapter_served", deployment=row.deployment, adapter=row.name, id=served.id)

    async def _let_go(self, deployment: str, served: ServedAdapter) -> None:
        """It is not to be served after all."""
        if all(each.id != served.id for each in self._fleet.directory.adapters(deployment).values()):
            await self._fleet.adapters.remove(deployment, [served.id])

    async def _withdraw(self, key: tuple[str, str]) -> None:
        deployment, name = key
        self._rows.pop(key, None)
        self._errors.pop(key, None)
        left = dict(self._fleet.directory.adapters(deployment))
        if left.pop(name, None) is not None:
            await self._offer(deployment, left)

    async def _offer(self, deployment: str, adapters: dict[str, ServedAdapter]) -> None:
        """These and no others; what no name stands for any more leaves the replicas."""
        before = {each.id for each in self._fleet.directory.adapters(deployment).values()}
        self._fleet.directory.put_adapters(deployment, adapters.values())
        await self._fleet.adapters.remove(deployment, before - {each.id for each in adapters.values()})

    def _fail(self, row: StoredAdapter, reason: str) -> None:
        self._errors[row.deployment, row.name] = reason
        log.error("adapter_left_out", deployment=row.deployment, adapter=row.name, reason=reason)
