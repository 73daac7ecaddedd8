"""All deployments of one server: brings what runs to what shall run, while it serves.

Acts on one deployment come one after the other. Each tells its progress, and returns when it is done: a scaled
deployment has its replicas, a restarted one has new ones, an undeployed one has let its requests finish.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from pileus.core.clock import Clock
from pileus.core.errors import NotFound, OperatorError
from pileus.core.ports import ReplicaStarter
from pileus.fleet.adapter_book import AdapterBook
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.group import Group, News
from pileus.fleet.lifecycle import Life
from pileus.fleet.records import Deployment, DeploymentStatus
from pileus.fleet.supervisor import Supervisor
from pileus.fleet.timeline import EventKind, FleetEvent, Timeline, turn
from pileus.models.progress import Progress, silent
from pileus.scheduling.scaling import Cause, Policy

START_TIMEOUT_S = 300.0  # a large model may load for minutes
GRACE_S = 20.0  # for what runs on a replica that must go, before it goes on elsewhere

log = structlog.get_logger(__name__)


class Fleet:
    """Made and used on the event loop. Sockets lie in `run_dir`, a short path that is made for this user alone.

    Raises `ConfigError` for names that are given twice, and `OperatorError` for a `run_dir` that cannot serve.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        starter: ReplicaStarter,
        *,
        run_dir: Path,
        clock: Clock,
        start_timeout_s: float = START_TIMEOUT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        _make_private(run_dir)
        self.timeline = Timeline()
        self.adapters = AdapterBook()
        self.on_opened: list[Callable[[Deployment], None]] = []  # it is about to be offered
        self.on_closed: list[Callable[[str], None]] = []  # it is offered no more, and its replicas are leaving
        self._starter = starter
        self._run_dir = run_dir
        self._clock = clock
        self._start_timeout_s = start_timeout_s
        self._grace_s = grace_s
        self._sockets = count()
        self._news = News()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.directory = ServingDirectory(
            (deployment.info for deployment in deployments), self.status, wake=self.wake, starting_s=self.starting_s
        )
        self._groups = {deployment.info.name: self._group(deployment) for deployment in deployments}

    def start(self) -> None:
        """Begin to start every replica, and to keep them running."""
        for group in self._groups.values():
            group.start()

    async def wait_ready(self, deployment: str, timeout_s: float) -> None:
        """Return once a replica of it is ready, or at once where none shall be. Raises `OperatorError` with the reason
        when it will not be soon."""
        group = self._groups[deployment]
        try:
            async with asyncio.timeout(timeout_s):
                while group.desired and not self.directory.ready(deployment):
                    if reason := group.hopeless:
                        raise OperatorError(f"{deployment} does not start: {reason}")
                    await self._news.next()
        except TimeoutError:
            errors = [replica.last_error for replica in group.status().replicas if replica.last_error]
            reason = errors[0] if errors else "it is still starting"
            raise OperatorError(f"{deployment} was not ready within {timeout_s:.0f} s: {reason}") from None

    async def drain_and_stop(self, grace_s: float) -> None:
        """Let every replica finish what it has, for at most `grace_s` seconds, and end it."""
        await asyncio.gather(*(group.end(grace_s) for group in self._groups.values()))

    # --- what operators do, each by the name of a key -------------------------------------------------------------

    async def scale(
        self, deployment: str, replicas: int, policy: Policy | None = None, progress: Progress = silent, *, by: str = ""
    ) -> None:
        """So many replicas from now on; and from there by the policy, if there is one. Raises `NotFound`, and
        `OperatorError` where a replica does not start."""
        async with self._turn(deployment) as group:
            group.deployment = group.deployment.evolve(replicas=replicas, policy=policy)
            await group.settle(self._resize(group, replicas, Cause.HAND, by), "scaling", progress)

    async def restart(self, deployment: str, progress: Progress = silent, *, by: str = "") -> None:
        """Put a new replica in the place of each, one by one, without a request that fails."""
        async with self._turn(deployment) as group:
            await self._roll(group, progress, by)

    async def deploy(self, deployment: Deployment, progress: Progress = silent, *, by: str = "") -> None:
        """Run what was not there, or what has changed: then each replica is replaced, and where the first new one does
        not start, everything is as before, and `OperatorError` tells why. Raises `ConfigError` for a taken name."""
        name = deployment.info.name
        async with self._turns[name]:
            self.directory.check(name, deployment.info.aliases)
            if name in self._groups:
                await self._change(self._groups[name], deployment, progress, by)
            else:
                await self._add(deployment, progress)
            self.tell(name, EventKind.DEPLOYED, by=by)

    async def undeploy(self, deployment: str, progress: Progress = silent, *, by: str = "") -> None:
        """Offer it no more, let its requests finish, and forget it."""
        async with self._turn(deployment) as group:
            self.directory.drop(deployment)
            for hook in self.on_closed:
                hook(deployment)
            await group.leave(progress)
            del self._groups[deployment]
            self.tell(deployment, EventKind.UNDEPLOYED, by=by)

    def _group(self, deployment: Deployment) -> Group:
        return Group(deployment, self._hire, self._news, self._grace_s)

    async def _add(self, deployment: Deployment, progress: Progress) -> None:
        for hook in self.on_opened:
            hook(deployment)
        group = self._groups[deployment.info.name] = self._group(deployment)
        self.directory.put(deployment.info)
        group.start()
        await group.settle(list(group.members), "starting", progress)

    async def _change(self, group: Group, deployment: Deployment, progress: Progress, by: str) -> None:
        before, group.deployment = group.deployment, deployment
        try:
            if deployment.spec != before.spec:
                await self._roll(group, progress, by)
        except BaseException:
            group.deployment = before
            raise
        self.directory.put(deployment.info)
        await group.settle(self._resize(group, deployment.replicas, Cause.HAND, by), "scaling", progress)

    async def _roll(self, group: Group, progress: Progress, by: str) -> None:
        name = group.deployment.info.name
        self.tell(name, EventKind.ROLL_BEGUN, by=by)
        await group.roll(progress)
        self.tell(name, EventKind.ROLL_ENDED, by=by)

    def _resize(self, group: Group, replicas: int, cause: Cause, by: str = "") -> list[Supervisor]:
        before, changing = group.desired, group.resize(replicas)
        if before != replicas:
            self.tell(group.deployment.info.name, EventKind.SCALED, before=before, after=replicas, cause=cause, by=by)
        return changing

    # --- what it does by itself -----------------------------------------------------------------------------------

    def wake(self, deployment: str) -> None:
        """Start a replica of a deployment that sleeps."""
        group = self._groups.get(deployment)
        if group is not None and group.desired == 0:
            log.info("deployment_woken", deployment=deployment)
            self._resize(group, 1, Cause.WAKE)

    def starting_s(self, deployment: str) -> float | None:
        """See `directory.Directory`."""
        group = self._groups.get(deployment)
        return None if group is None else group.starting_s(self._clock.monotonic())

    def scalable(self) -> Iterator[tuple[Deployment, int]]:
        """Deployments that scale by themselves and that nobody acts on now, with the replicas that they shall have."""
        for name, group in self._groups.items():
            if group.deployment.policy is not None and not self._turns[name].locked():
                yield group.deployment, group.desired

    def adjust(self, deployment: str, replicas: int, cause: Cause) -> None:
        """Begin to have so many replicas."""
        self._resize(self._groups[deployment], replicas, cause)

    # --- what is seen ---------------------------------------------------------------------------------------------

    def tell(self, deployment: str, kind: EventKind, **details: Any) -> None:
        """Put what happens now on the time line; `details` are fields of `FleetEvent`."""
        self.timeline.add(FleetEvent(t=self._clock.wall(), deployment=deployment, kind=kind, **details))

    def status(self) -> list[DeploymentStatus]:
        return [group.status() for group in self._groups.values()]

    def deployment(self, name: str) -> Deployment:
        """What shall run under this name. Raises `NotFound`."""
        return self._known(name).deployment

    def tails(self, deployment: str) -> Mapping[str, list[str]]:
        """The last lines that each replica printed. Raises `NotFound`."""
        return self._known(deployment).tails()

    # --- inside ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, deployment: str) -> AsyncIterator[Group]:
        """The deployment, when everybody who came before is done with it."""
        self._known(deployment)
        async with self._turns[deployment]:
            yield self._known(deployment)

    def _known(self, deployment: str) -> Group:
        try:
            return self._groups[deployment]
        except KeyError:
            there = ", ".join(self._groups) or "none"
            raise NotFound(f"there is no deployment {deployment!r}; there is: {there}") from None

    def _hire(self, deployment: Deployment, number: int) -> Supervisor:
        name = deployment.info.name
        return Supervisor(
            deployment,
            number,
            starter=self._starter,
            directory=self.directory,
            socket_stem=self._run_dir / f"{next(self._sockets)}",
            clock=self._clock,
            start_timeout_s=self._start_timeout_s,
            on_change=lambda replica, before, life: self._on_change(name, replica, before, life),
            equip=lambda link: self.adapters.equip(name, link),
        )

    def _on_change(self, deployment: str, replica: str, before: Life, life: Life) -> None:
        if event := turn(deployment, replica, before, life, self._clock.wall()):
            self.timeline.add(event)
        group = self._groups.get(deployment)
        if group is not None and group.waking and (group.ready or group.hopeless):
            group.waking = False
            if not group.ready:
                self.directory.give_up(deployment)
        self._news.tell()


def _make_private(folder: Path) -> None:
    """Whoever can reach a replica's socket can use it without a key."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise OperatorError(f"cannot make the folder for replica sockets: {error}") from error
    if mode & 0o077:
        raise OperatorError(f"others can enter {folder}, where replica sockets lie: chmod 700 {folder}")
