"""All deployments of one server: brings what runs to what shall run."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pileus.core.clock import Clock
from pileus.core.errors import OperatorError
from pileus.core.ports import ReplicaStarter
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.lifecycle import Phase
from pileus.fleet.records import Deployment, DeploymentStatus
from pileus.fleet.supervisor import Supervisor

START_TIMEOUT_S = 300.0  # a large model may load for minutes


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
    ) -> None:
        _make_private(run_dir)
        self._deployments = {deployment.info.name: deployment for deployment in deployments}
        self.directory = ServingDirectory((deployment.info for deployment in deployments), self.status)
        self._supervisors = {
            name: tuple(
                Supervisor(
                    deployment,
                    number,
                    starter=starter,
                    directory=self.directory,
                    socket_stem=run_dir / f"{position}-{number}",
                    clock=clock,
                    start_timeout_s=start_timeout_s,
                    on_change=self._on_change,
                )
                for number in range(deployment.replicas)
            )
            for position, (name, deployment) in enumerate(self._deployments.items())
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()  # replaced at each change

    def start(self) -> None:
        """Begin to start every replica, and to keep them running."""
        self._tasks = [asyncio.create_task(supervisor.run()) for supervisor in self._all()]

    async def wait_ready(self, deployment: str, timeout_s: float) -> None:
        """Return once a replica of it is ready. Raises `OperatorError` with the reason when it will not be soon."""
        supervisors = self._supervisors[deployment]
        try:
            async with asyncio.timeout(timeout_s):
                while not self.directory.ready(deployment):
                    if all(supervisor.life.phase is Phase.CRASH_LOOP for supervisor in supervisors):
                        raise OperatorError(f"{deployment} does not start: {supervisors[0].life.last_error}")
                    await self._changed.wait()
        except TimeoutError:
            errors = [supervisor.life.last_error for supervisor in supervisors if supervisor.life.last_error]
            reason = errors[0] if errors else "it is still starting"
            raise OperatorError(f"{deployment} was not ready within {timeout_s:.0f} s: {reason}") from None

    async def drain_and_stop(self, grace_s: float) -> None:
        """Let every replica finish what it has, for at most `grace_s` seconds, and end it."""
        for supervisor in self._all():
            supervisor.end(grace_s)
        await asyncio.gather(*self._tasks)

    def status(self) -> list[DeploymentStatus]:
        return [
            DeploymentStatus(
                info=deployment.info,
                replicas=tuple(supervisor.status() for supervisor in self._supervisors[name]),
            )
            for name, deployment in self._deployments.items()
        ]

    def _all(self) -> list[Supervisor]:
        return [supervisor for supervisors in self._supervisors.values() for supervisor in supervisors]

    def _on_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _make_private(folder: Path) -> None:
    """Whoever can reach a replica's socket can use it without a key."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise OperatorError(f"cannot make the folder for replica sockets: {error}") from error
    if mode & 0o077:
        raise OperatorError(f"others can enter {folder}, where replica sockets lie: chmod 700 {folder}")
