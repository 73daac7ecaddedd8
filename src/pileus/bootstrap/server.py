"""The server's life: what it starts, in which order, and how that ends again."""

import asyncio
import resource
import signal
import socket
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from pileus import __version__
from pileus.bootstrap import memory, parts
from pileus.bootstrap.front import Front, OwnFront, SharedFront, listen, url_of
from pileus.bootstrap.handlers import kinds
from pileus.bootstrap.jobs import SCHEDULING_SOCKET, JobsPart
from pileus.bootstrap.local import check, open_registry, own
from pileus.core.clock import SystemClock
from pileus.models.progress import silent

if TYPE_CHECKING:
    from pileus.config.load import Loaded
    from pileus.config.settings import Settings
    from pileus.fleet.adapters import Adapters
    from pileus.fleet.controller import Fleet
    from pileus.observability.series import Series
    from pileus.security.service import Security
    from pileus.store.port import Store

READY_TIMEOUT_S = 600.0
_SAMPLE_INTERVAL_S = 1.0
_MOST_OPEN_FILES = 65_536
_LAST_GRACE_S = 5.0  # for replicas, after every connection has ended


class Ready(Struct, frozen=True, kw_only=True):
    """What a person needs to know once the server takes requests."""

    url: str
    models: tuple[str, ...]
    admin_key: str | None  # only on the first start, and only here
    took_s: float


class Listener(Protocol):
    """Hears of a start and a stop."""

    def progress(self, stage: str, done: int, total: int) -> None: ...

    def ready(self, ready: Ready) -> None: ...

    def stopping(self) -> None: ...


def run_server(loaded: "Loaded", *, listener: Listener | None = None, deploys: bool = True) -> None:
    """Serve until SIGINT or SIGTERM, then drain; without any deployment where it is not to deploy. Raises
    `OperatorError` where that cannot begin."""
    import uvloop

    from pileus.observability import events

    began = perf_counter()
    check(loaded)
    settings = loaded.settings if deploys else loaded.settings.model_copy(update={"deployment": ()})
    events.configure(settings.log.level, settings.log.format)
    _allow_open_files()
    with ExitStack() as stack:
        store, security = stack.enter_context(own(settings))
        server = settings.server
        listening = stack.enter_context(listen(server.host, server.port, server.gateways))
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pileus-")))
        plan = parts.make_plan(settings, store, listener.progress if listener else silent)
        stack.enter_context(security.audit.server_run(f"{__version__} at {url_of(listening[0])}"))
        uvloop.run(_Server(settings, store, security, plan, listener, began).run(listening, run_dir))


class _Server:
    """The server's parts, from the fleet up to the socket, and their order of start and stop."""

    def __init__(
        self,
        settings: "Settings",
        store: "Store",
        security: "Security",
        plan: parts.Plan,
        listener: Listener | None,
        began: float,
    ) -> None:
        self._settings = settings
        self._store = store
        self._security = security
        self._plan = plan
        self._listener = listener
        self._began = began
        self._stops_asked = 0

    async def run(self, listening: list[socket.socket], run_dir: Path) -> None:
        from pileus.fleet.backends.local import LocalStarter
        from pileus.fleet.controller import Fleet

        grace_s = self._settings.server.drain_s
        fleet = Fleet(self._plan.deployments, LocalStarter(), run_dir=run_dir, clock=SystemClock(), grace_s=grace_s)
        adapters = parts.make_adapters(self._plan, fleet, self._store)
        fleet.start()
        try:
            # The replicas load while the web framework does.
            await asyncio.to_thread(import_module, "pileus.api.app")
            await self._serve(fleet, adapters, listening, run_dir)
        finally:
            await fleet.drain_and_stop(_LAST_GRACE_S)

    async def _serve(self, fleet: "Fleet", adapters: "Adapters", listening: list[socket.socket], run_dir: Path) -> None:
        from pileus.observability.metrics import Metrics
        from pileus.observability.series import Series
        from pileus.observability.tracing import open_tracer

        settings, security = self._settings, self._security
        tracer = open_tracer(settings.telemetry.otlp_endpoint, __version__)
        metrics = Metrics()
        series = Series(metrics)
        scheduling = parts.make_scheduling(settings, fleet, security, metrics, tracer)
        metrics.observe_with(lambda: parts.samples(fleet, scheduling))
        pipeline = parts.make_pipeline(settings, self._plan.workshop, fleet, scheduling, security)
        deployments = parts.make_acts(settings, self._plan, fleet, self._store)
        autoscaler = parts.make_autoscaler(fleet, scheduling, metrics)
        files = parts.make_files(settings, self._store)
        judge = parts.make_judge(settings, self._store, security)
        promotions = await asyncio.to_thread(parts.make_promotions, self._store, fleet, judge, metrics)
        jobs = JobsPart(settings, self._store, kinds(settings), run_dir)
        jobs.service.on_ended.append(adapters.on_job_ended)
        house = parts.House(
            settings=settings,
            fleet=fleet,
            deployments=deployments,
            adapters=adapters,
            files=files,
            jobs=jobs.service,
            registry=open_registry(settings, self._store, security),
            batches=parts.make_batches(settings, self._store, jobs.service),
            fine_tuning=parts.make_fine_tuning(settings, self._store, jobs.service, fleet),
            background=parts.make_background(settings, jobs.service),
            webhooks=parts.make_webhooks(settings, self._store, jobs.service, security),
            judge=judge,
            promotions=promotions,
            security=security,
            pipeline=pipeline,
            scheduling=scheduling,
            metrics=metrics,
            series=series,
        )
        server = parts.make_api(house)
        hub = parts.make_hub(fleet, scheduling, security, metrics)
        front: Front = OwnFront(server, listening[0])
        if len(listening) > 1:
            front = SharedFront(settings, server, hub, listening, run_dir / SCHEDULING_SOCKET, run_dir)
        self._watch_signals(front)
        forever = (_sample(series), security.run(), autoscaler.run(), files.run(), promotions.run(), jobs.run())
        try:
            async with await hub.serve(run_dir / SCHEDULING_SOCKET), await jobs.serve():
                await self._run(front, jobs, self._announce(fleet, front, listening[0]), *forever)
        finally:
            await deployments.acts.stop()
            tracer.close()

    async def _run(self, front: Front, jobs: JobsPart, *behind: Coroutine[Any, Any, None]) -> None:
        """Serve until somebody stops the front. What fails behind the scenes ends the server, rather than going on
        without it."""
        serving = asyncio.create_task(front.serve())
        background = [asyncio.create_task(work) for work in behind]
        try:
            pending = {serving, *background}
            while not serving.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            at_once = self._stops_asked > 1
            front.stop(at_once=at_once)
            await asyncio.gather(serving, jobs.stop(at_once=at_once))
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    def _watch_signals(self, front: Front) -> None:
        """The first stop lets requests finish, the second does not."""

        def stop() -> None:
            self._stops_asked += 1
            front.stop(at_once=self._stops_asked > 1)
            if self._listener and self._stops_asked == 1:
                self._listener.stopping()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)

    async def _announce(self, fleet: "Fleet", front: Front, listening: socket.socket) -> None:
        """Wait for every deployment of the settings, make the first key, and tell the listener."""
        for wanted in self._settings.deployment:
            await fleet.wait_ready(wanted.name, READY_TIMEOUT_S)
        await front.opened()
        memory.settle()
        if self._listener is None:
            return
        admin_key = None
        if not await self._security.keys.list():
            _, admin_key = await self._security.keys.create("admin", "admin")
        self._listener.ready(
            Ready(
                url=url_of(listening),
                models=fleet.directory.deployments(),
                admin_key=admin_key,
                took_s=perf_counter() - self._began,
            )
        )


def _allow_open_files() -> None:
    """As many as this user may have: each connection is one, and the usual limit is for programs with few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _sample(series: "Series") -> None:
    """A point for the console's charts every second."""
    clock = SystemClock()
    while True:
        series.sample(clock.wall(), clock.monotonic())
        await asyncio.sleep(_SAMPLE_INTERVAL_S)
