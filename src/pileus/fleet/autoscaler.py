"""Carries out, once a second, what `scheduling.scaling` decides."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog

from pileus.core.clock import Clock
from pileus.fleet.controller import Fleet
from pileus.fleet.memory import shortage
from pileus.fleet.records import Deployment
from pileus.scheduling.scaling import Demand, Policy, Scaler, why

INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


class Autoscaler:
    """Over all deployments of a fleet that have a policy. `demand` measures one; `available` is memory, in bytes."""

    def __init__(
        self, fleet: Fleet, demand: Callable[[str], Demand], available: Callable[[], int], clock: Clock
    ) -> None:
        self._fleet = fleet
        self._demand = demand
        self._available = available
        self._clock = clock
        self._scalers: defaultdict[tuple[str, Policy], Scaler] = defaultdict(Scaler)  # a new policy begins anew
        self._short: set[str] = set()  # deployments that could not grow, and whose operator was told

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.tick()

    def tick(self) -> None:
        """One round."""
        now = self._clock.monotonic()
        current = list(self._fleet.scalable())
        for deployment, replicas in current:
            name, policy = deployment.info.name, deployment.policy
            assert policy is not None
            demand = self._demand(name)
            decided = self._scalers[name, policy].decide(policy, demand, replicas, now)
            if decided < replicas or (decided > replicas and self._fits(deployment, decided - replicas)):
                cause = why(policy, demand, replicas, decided)
                log.info("deployment_scaled", deployment=name, replicas=decided, before=replicas, cause=cause)
                self._fleet.adjust(name, decided, cause)

    def _fits(self, deployment: Deployment, more: int) -> bool:
        name = deployment.info.name
        reason = shortage(name, more, deployment.footprint, self._available())
        if not reason:
            self._short.discard(name)
        elif name not in self._short:
            self._short.add(name)
            log.warning("deployment_cannot_grow", deployment=name, reason=reason)
        return not reason
