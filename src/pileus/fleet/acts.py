"""Acts that take long: each goes on by itself, tells how far it is, and can be seen for a while after its end."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import structlog
from msgspec import Struct

from pileus.core.errors import PileusError
from pileus.models.progress import Progress

log = structlog.get_logger(__name__)


class Act(Struct):
    """What is being done to a deployment, or was done last."""

    kind: str  # deploy, scale, restart or undeploy
    stage: str = ""
    done: int = 0
    total: int = 0  # 0 is unknown
    ended: bool = False
    error: str = ""  # why it failed; empty while it has not
    number: int = 0  # rises with each act, whatever it is done to


class Acts:
    """The latest act on each deployment. Work that has begun is seen through, whoever asked for it.

    `on_failed` hears of each that failed: the deployment, the kind of act, and why.
    """

    def __init__(self, on_failed: Callable[[str, str, str], None]) -> None:
        self._on_failed = on_failed
        self._latest: dict[str, Act] = {}
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def latest(self, deployment: str) -> Act | None:
        return self._latest.get(deployment)

    def begin(self, deployment: str, kind: str, work: Callable[[Progress], Awaitable[None]]) -> Act:
        """Begin the work. Its failure is told in the act, and in the log."""
        act = self._latest[deployment] = Act(kind, number=next(self._numbers))
        task = asyncio.create_task(self._run(deployment, act, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return act

    async def stop(self) -> None:
        """Give up what has not ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, deployment: str, act: Act, work: Callable[[Progress], Awaitable[None]]) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            act.stage, act.done, act.total = stage, done, total

        log.info("act_begun", deployment=deployment, kind=act.kind)
        try:
            await work(progress)
        except PileusError as error:
            act.error = error.message
            log.warning("act_failed", deployment=deployment, kind=act.kind, error=error.message)
        except Exception:  # this task's edge: nobody awaits it
            act.error = "the server made a mistake; its log has the details"
            log.exception("act_crashed", deployment=deployment, kind=act.kind)
        finally:
            act.ended = True
            if act.error:
                self._on_failed(deployment, act.kind, act.error)
