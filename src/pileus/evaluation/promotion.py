"""Public names, and how they come to mean another deployment: at once, or by a canary that is watched; and back.

A deployment is promoted whose model the gate has passed, as it is now, beside what the name serves (`judging`). Each
change is on record, with its author and in the audit, before it takes effect; the fleet's directory then hands it to
every gateway. What a canary has reached is in the store, so a restarted server goes on with the step it was at, watched
anew.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InUse, InvalidRequest, ModelNotFound, NotFound, PermissionDenied, Unavailable
from pileus.core.records import AuditEvent, Principal
from pileus.evaluation.judging import Judge
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.timeline import EventKind
from pileus.observability.metrics import Metrics
from pileus.scheduling.canary import Act, Counts, Plan, Watch
from pileus.scheduling.traffic import Arm, steps
from pileus.security.audit import SYSTEM
from pileus.store.port import Store
from pileus.store.tables import AuditTable
from pileus.store.traffic_table import StoredTraffic, TrafficTable

Tell = Callable[..., None]  # see `fleet.controller.Fleet.tell`

INTERVAL_S: Final = 1.0

log = structlog.get_logger(__name__)


class Canary(Struct, frozen=True, kw_only=True):
    """A deployment that is tried, and what it is tried beside."""

    candidate: str
    stable: str
    plan: Plan
    step: int = 0


class Traffic(Struct, frozen=True, kw_only=True):
    """A public name."""

    name: str
    arms: tuple[Arm, ...]
    previous: tuple[Arm, ...] = ()  # what a rollback goes back to
    canary: Canary | None = None
    said: str = ""  # why it is as it is, where the server itself decided


class Promotions:
    """The public names of this Pileus. For one event loop."""

    def __init__(
        self,
        store: Store,
        directory: ServingDirectory,
        judge: Judge,
        metrics: Metrics,
        tell: Tell,
        clock: Clock,
    ) -> None:
        self._store = store
        self._directory = directory
        self._judge = judge
        self._metrics = metrics
        self._tell = tell
        self._clock = clock
        self._table, self._audit = TrafficTable(), AuditTable()
        self._names: dict[str, Traffic] = {}
        self._watches: dict[str, Watch] = {}
        self._changing = asyncio.Lock()

    def open(self) -> None:
        """Take over what is in the store. Blocks."""
        for row in self._store.read_blocking(self._table.all):
            self._take(msgspec.json.decode(row.body, type=Traffic))

    def all(self) -> list[Traffic]:
        """By name."""
        return [self._names[name] for name in sorted(self._names)]

    def get(self, name: str) -> Traffic:
        """Raises `NotFound`."""
        if name not in self._names:
            raise NotFound(f"there is no public name {name!r}; there is: {', '.join(self._names) or 'none'}")
        return self._names[name]

    def answered(self, name: str) -> int:
        """Requests of the canary that ended in its present step."""
        return self._watches[name].answered if name in self._watches else 0

    @asynccontextmanager
    async def leaving(self, deployment: str, *, force: bool = False) -> AsyncIterator[None]:
        """While a deployment is taken away nothing is promoted. Raises `InUse` where a public name leads to it, unless
        it is forced."""
        async with self._changing:
            for traffic in () if force else self.all():
                if deployment in {arm.deployment for arm in traffic.arms}:
                    raise InUse(_still_used(traffic, deployment))
            yield

    # --- what operators do ----------------------------------------------------------------------------------------

    async def promote(
        self,
        name: str,
        to: str,
        by: Principal,
        *,
        canary: float | None = None,
        watch_s: float = 600.0,
        least_requests: int = 20,
        force: bool = False,
    ) -> Traffic:
        """Let that deployment have what is asked of the name: all of it, or by a canary of that share first.

        Raises `ModelNotFound` for a deployment that there is not, `InvalidRequest` for what has no sense as it is, and
        `PermissionDenied` where the gate's verdict is not what the policy demands and it is not forced.
        """
        async with self._changing:  # what is judged beside what is served now must not change meanwhile
            model = self._directory.info(to).model
            before = self._names.get(name) or Traffic(name=name, arms=self._present(name))
            after = _promoted(before, to, canary, watch_s, least_requests)
            share = f" at {after.arms[0].weight:.0%}" if after.canary else ""
            target = f"{name} to {to}{share}"
            refusal = await self._judge.refusal(model, name, self._served(name))
            if refusal and not force:
                await self._record(self._event(by, "traffic.promote", target, f"refused: {refusal.why}"))
                raise PermissionDenied(f"{refusal.why}: {refusal.way}.")
            outcome = f"forced: {refusal.why}" if refusal else "ok"
            await self._write(after, self._event(by, "traffic.promote", target, outcome))
        kind = EventKind.CANARY if after.canary else EventKind.PROMOTED
        self._tell(to, kind, reason=f"{name}{share}", by=by.name)
        return after

    async def roll_back(self, name: str, by: Principal) -> Traffic:
        """Go back to what was before: end a canary, or undo the last promotion. Raises `NotFound`, `InvalidRequest`."""
        async with self._changing:
            before = self.get(name)
            if before.canary is None and not before.previous:
                raise InvalidRequest(f"{name} has nothing to go back to")
            return await self._back(before, by.key_id, by.tenant, by.name, "")

    async def remove(self, name: str, by: Principal) -> None:
        """Have it be a name as any other. Raises `NotFound`."""
        async with self._changing:
            self.get(name)
            event = self._event(by, "traffic.remove", name)

            def write(tx: Connection) -> None:
                self._table.delete(tx, name)
                self._audit.insert(tx, [event])

            await self._store.write(write)
            del self._names[name]
            self._watches.pop(name, None)
            self._directory.route(name, ())

    # --- what the server does ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch canaries, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.tick()
            except Unavailable as error:  # what was decided is decided again
                log.error("canary_not_changed", reason=error.message)

    async def tick(self) -> None:
        """One look at each canary."""
        async with self._changing:
            for traffic in tuple(self._names.values()):
                if traffic.canary is not None:
                    await self._look(traffic, traffic.canary)

    async def _look(self, traffic: Traffic, canary: Canary) -> None:
        if canary.candidate not in self._directory.deployments():
            await self._back(traffic, SYSTEM, "", "", "it is not deployed any more")
            return
        watch = self._watches[traffic.name]
        now = self._clock.monotonic()
        decision = watch.observe(self._counts(canary.stable), self._counts(canary.candidate), now)
        if decision.act is Act.ROLL_BACK:
            await self._back(traffic, SYSTEM, "", "", decision.reason)
        elif decision.act is Act.ADVANCE:
            await self._forward(traffic, _stepped(traffic, canary), EventKind.CANARY)
        elif decision.act is Act.FINISH:
            whole = replace(traffic, arms=(Arm(canary.candidate, 1.0),), canary=None, previous=_whole(canary.stable))
            await self._forward(traffic, whole, EventKind.PROMOTED)

    async def _forward(self, before: Traffic, after: Traffic, kind: EventKind) -> None:
        assert before.canary is not None
        weight = after.arms[0].weight
        target = f"{before.name} to {before.canary.candidate} at {weight:.0%}"
        await self._write(after, self._system_event("traffic.advance", target, "ok"))
        self._tell(before.canary.candidate, kind, reason=f"{before.name} at {weight:.0%}")

    async def _back(self, before: Traffic, actor: str, tenant: str, by: str, reason: str) -> Traffic:
        canary = before.canary
        gone = canary.candidate if canary else before.arms[0].deployment
        arms = _whole(canary.stable) if canary else before.previous
        after = replace(before, arms=arms, previous=before.previous if canary else (), canary=None, said=reason)
        target = f"{before.name} from {gone} to {arms[0].deployment}"
        event = replace(self._system_event("traffic.rollback", target, reason or "ok"), actor=actor, tenant=tenant)
        await self._write(after, event)
        log.warning("rolled_back", name=before.name, deployment=gone, reason=reason)
        self._tell(gone, EventKind.ROLLED_BACK, reason=f"{before.name}: {reason}" if reason else before.name, by=by)
        return after

    # --- inside -------------------------------------------------------------------------------------------------------

    def _present(self, name: str) -> tuple[Arm, ...]:
        """What that name means without a promotion."""
        try:
            return _whole(self._directory.resolve(name).name)
        except ModelNotFound:
            return ()

    def _served(self, name: str) -> str:
        """The model that answers for that name now; empty where none does."""
        try:
            return self._directory.resolve(name).model
        except ModelNotFound:
            return ""

    def _counts(self, deployment: str) -> Counts:
        counts = self._metrics.deployments[deployment]
        ended = sum(counts.outcomes.values()) - counts.outcomes["cancelled"]
        return Counts(ended, counts.outcomes["error"], counts.ttft.copy())

    async def _write(self, traffic: Traffic, event: AuditEvent) -> None:
        """On record, then in effect."""
        row = StoredTraffic(traffic.name, msgspec.json.encode(traffic), event.at, event.actor)

        def write(tx: Connection) -> None:
            self._table.put(tx, row)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        self._take(traffic)

    def _take(self, traffic: Traffic) -> None:
        self._names[traffic.name] = traffic
        self._watches.pop(traffic.name, None)
        if (canary := traffic.canary) is not None:
            counts = self._counts(canary.stable), self._counts(canary.candidate)
            self._watches[traffic.name] = Watch(canary.plan, canary.step, *counts, self._clock.monotonic())
        self._directory.route(traffic.name, traffic.arms)

    async def _record(self, event: AuditEvent) -> None:
        await self._store.write(lambda tx: self._audit.insert(tx, [event]))

    def _event(self, by: Principal, action: str, target: str, outcome: str = "ok") -> AuditEvent:
        at = self._clock.wall()
        return AuditEvent(at=at, actor=by.key_id, tenant=by.tenant, action=action, target=target, outcome=outcome)

    def _system_event(self, action: str, target: str, outcome: str) -> AuditEvent:
        at = self._clock.wall()
        return AuditEvent(at=at, actor=SYSTEM, tenant="", action=action, target=target, outcome=outcome)


def _still_used(traffic: Traffic, deployment: str) -> str:
    """With what to do about it."""
    name = traffic.name
    if traffic.canary is not None:
        way = f"wait for its canary, or end it (`pileus rollback {name}`), before you take {deployment} away"
    else:
        way = f"lead it elsewhere (`pileus promote {name} --to ...`) or end it (`pileus traffic --remove {name}`) first"
    return f"the public name {name} leads to {deployment}: {way}, or force it"


def _promoted(before: Traffic, to: str, canary: float | None, watch_s: float, least_requests: int) -> Traffic:
    """The name as it is to be. Raises `InvalidRequest`."""
    if before.canary is not None:
        raise InvalidRequest(f"{before.name} has a canary, {before.canary.candidate}: wait for it, or roll it back")
    if before.arms == _whole(to):
        raise InvalidRequest(f"{before.name} is {to} already", param="to")
    if canary is None:
        return replace(before, arms=_whole(to), previous=before.arms, said="")
    if not before.arms:
        raise InvalidRequest(f"{before.name} means nothing yet, so there is nothing to try {to} beside", param="canary")
    weights = steps(canary)
    plan = Plan(weights=weights, hold_s=watch_s / len(weights), least_requests=least_requests)
    stable = before.arms[0].deployment
    tried = Canary(candidate=to, stable=stable, plan=plan)
    return replace(before, arms=_split(tried), canary=tried, said="")


def _stepped(traffic: Traffic, canary: Canary) -> Traffic:
    further = replace(canary, step=canary.step + 1)
    return replace(traffic, arms=_split(further), canary=further)


def _split(canary: Canary) -> tuple[Arm, ...]:
    weight = canary.plan.weights[canary.step]
    return (Arm(canary.candidate, weight), Arm(canary.stable, 1 - weight))


def _whole(deployment: str) -> tuple[Arm, ...]:
    return (Arm(deployment, 1.0),)
