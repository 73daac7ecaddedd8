"""One deployment's replicas: those that stay, and those that are leaving."""

import asyncio
from collections.abc import Callable
from itertools import count

from pileus.core.errors import OperatorError
from pileus.fleet.lifecycle import Phase
from pileus.fleet.records import Deployment, DeploymentStatus
from pileus.fleet.supervisor import Supervisor
from pileus.models.progress import Progress

_USUAL_START_S = 10.0  # until one was seen

Hire = Callable[[Deployment, int], Supervisor]


class News:
    """Wakes whoever waits for something to change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def next(self) -> None:
        await self._event.wait()


class Group:
    """`resize` and `dismiss` only begin; what is awaited here is their end."""

    def __init__(self, deployment: Deployment, hire: Hire, news: News, grace_s: float) -> None:
        self.deployment = deployment
        self.desired = deployment.replicas
        self.waking = False  # it had none, and none is ready yet
        self.members: list[Supervisor] = []  # oldest first
        self._hire = hire
        self._news = news
        self._grace_s = grace_s
        self._numbers = count()
        self._leaving: list[Supervisor] = []
        self._tasks: dict[Supervisor, asyncio.Task[None]] = {}
        self._started = False
        self._start_s = _USUAL_START_S
        self.resize(self.desired)

    def start(self) -> None:
        """Begin to start every replica, and to keep them running."""
        self._started = True
        for supervisor in self.members:
            self._run(supervisor)

    # --- what begins ----------------------------------------------------------------------------------------------

    def resize(self, replicas: int) -> list[Supervisor]:
        """So many there shall be. Returns those that come and go."""
        self.desired = replicas
        self.waking = replicas > 0 and (self.waking or (self._started and not self.members))
        coming = [self.place() for _ in range(replicas - len(self.members))]
        idlest = sorted(self.members, key=lambda supervisor: supervisor.load)
        going = idlest[: max(0, len(self.members) - replicas)]
        for supervisor in going:
            self.dismiss(supervisor)
        return coming + going

    def place(self) -> Supervisor:
        """One more replica, by the present specification."""
        supervisor = self._hire(self.deployment, next(self._numbers))
        self.members.append(supervisor)
        if self._started:
            self._run(supervisor)
        return supervisor

    def dismiss(self, supervisor: Supervisor, grace_s: float | None = None) -> None:
        """It takes nothing new, has its grace to finish what it has, and ends; the rest goes on elsewhere."""
        self.members.remove(supervisor)
        self._start_s = supervisor.start_s or self._start_s
        self._leaving.append(supervisor)
        supervisor.end(self._grace_s if grace_s is None else grace_s)

    async def end(self, grace_s: float) -> None:
        """All of them, for good. Their last state stays to be seen."""
        for supervisor in (*self.members, *self._leaving):
            supervisor.end(grace_s)
        await asyncio.gather(*self._tasks.values())

    # --- what is waited for ---------------------------------------------------------------------------------------

    async def until_ready(self, supervisor: Supervisor) -> None:
        """Raises `OperatorError`, with the reason, when it does not start."""
        while supervisor.life.phase is not Phase.READY:
            if supervisor.life.phase is Phase.CRASH_LOOP:
                raise OperatorError(f"{self.deployment.info.name} does not start: {supervisor.life.last_error}")
            if supervisor not in self.members:
                raise OperatorError(f"{self.deployment.info.name}: a replica was taken away while it started")
            await self._news.next()

    async def until_gone(self, supervisor: Supervisor) -> None:
        if task := self._tasks.get(supervisor):
            await asyncio.wait({task})

    async def settle(self, changing: list[Supervisor], stage: str, progress: Progress) -> None:
        """See those that come until they are ready, and those that go until they are gone."""
        for done, supervisor in enumerate(changing):
            progress(stage, done, len(changing))
            if supervisor in self.members:
                await self.until_ready(supervisor)
            else:
                await self.until_gone(supervisor)
        progress(stage, len(changing), len(changing))

    async def leave(self, progress: Progress) -> None:
        """See all of them go, with their grace."""
        self.resize(0)
        await self.settle(list(self._leaving), "draining", progress)

    async def roll(self, progress: Progress) -> None:
        """Put a new replica, by the present specification, in the place of each: one comes before one goes. Where the
        new one does not start, the old ones stay, and `OperatorError` tells why."""
        old = list(self.members)
        for done, supervisor in enumerate(old):
            progress("replacing", done, len(old))
            fresh = self.place()
            try:
                await self.until_ready(fresh)
            except BaseException:
                if fresh in self.members:
                    self.dismiss(fresh, 0.0)
                await self.until_gone(fresh)
                raise
            if supervisor in self.members:
                self.dismiss(supervisor)
            await self.until_gone(supervisor)
        progress("replacing", len(old), len(old))

    # --- what is seen ---------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return any(supervisor.life.phase is Phase.READY for supervisor in self.members)

    @property
    def hopeless(self) -> str:
        """Why none of its replicas starts; empty while one may."""
        looping = [member.life for member in self.members if member.life.phase is Phase.CRASH_LOOP]
        return looping[0].last_error if looping and len(looping) == len(self.members) else ""

    def starting_s(self, now: float) -> float | None:
        """About how long until a replica is ready, from what the last start took; None unless it sleeps or wakes."""
        asleep = self.desired == 0 or self.waking
        if not asleep or self.ready or self.hopeless:
            return None
        since = [member.life.since_s for member in self.members if member.life.phase is Phase.STARTING]
        return max(1.0, self._start_s - (now - min(since, default=now)))

    def status(self) -> DeploymentStatus:
        deployment = self.deployment
        return DeploymentStatus(
            info=deployment.info,
            replicas=tuple(supervisor.status() for supervisor in (*self.members, *self._leaving)),
            desired=self.desired,
            policy=deployment.policy,
        )

    def tails(self) -> dict[str, list[str]]:
        """The last lines of each replica."""
        return {supervisor.replica: supervisor.tail() for supervisor in (*self.members, *self._leaving)}

    # --- inside ---------------------------------------------------------------------------------------------------

    def _run(self, supervisor: Supervisor) -> None:
        task = self._tasks[supervisor] = asyncio.create_task(supervisor.run())
        task.add_done_callback(lambda _: self._on_gone(supervisor))

    def _on_gone(self, supervisor: Supervisor) -> None:
        if supervisor in self._leaving:
            self._leaving.remove(supervisor)
            self._tasks.pop(supervisor)
        self._news.tell()
