"""The composition root: the only place where rooms meet their adapters. It puts together; it decides nothing.

Adapters are imported where they are needed: a replica never loads the web framework, the server never loads OpenVINO.
"""

import asyncio
import errno
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct

from pileus import __version__
from pileus.core.clock import SystemClock
from pileus.core.errors import OperatorError
from pileus.core.ports import EngineDriver, EngineSpec, Price, ReplicaCommand

if TYPE_CHECKING:
    from pileus.api.server import ApiServer
    from pileus.config.load import Loaded
    from pileus.config.settings import Settings
    from pileus.core.ports import Tokenizer
    from pileus.fleet.controller import Fleet
    from pileus.fleet.records import Deployment
    from pileus.gateway.pipeline import Pipeline
    from pileus.models.artefact import Artefact
    from pileus.models.catalogue import Catalogue
    from pileus.observability.figures import DeploymentSample
    from pileus.observability.metrics import Metrics
    from pileus.observability.series import Series
    from pileus.observability.tracing import Tracer
    from pileus.security.service import Security

# Where the `DRIVER` of each engine is.
ENGINES: Mapping[str, str] = {
    "native": "pileus.engines.native",
    "fake": "pileus.testing.fake",
}

# A model that is none: the fake engine's own vocabulary.
FAKE_MODEL = "fake"

READY_TIMEOUT_S = 600.0
_SAMPLE_INTERVAL_S = 1.0
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


# --- the parts --------------------------------------------------------------------------------------------------------


def load_driver(name: str) -> EngineDriver:
    """The driver of that name. Raises `KeyError` for one that is not in `ENGINES`."""
    driver: EngineDriver = import_module(ENGINES[name]).DRIVER
    return driver


def check(loaded: "Loaded") -> None:
    """Validate what only the drivers know. Raises `ConfigError` with the line and the fix."""
    from pileus.config.load import unknown_engine, validate_options

    for deployment in loaded.settings.deployment:
        if deployment.engine not in ENGINES:
            raise unknown_engine(deployment, ENGINES, loaded.origin)
        validate_options(load_driver(deployment.engine).options, deployment, loaded.origin)


def open_catalogue(settings: "Settings") -> "Catalogue":
    """The models of this data folder."""
    from pileus.models.catalogue import Catalogue

    return Catalogue(settings.data_dir / "models", settings.models)


@contextmanager
def open_keyring(settings: "Settings") -> Iterator["LocalKeyring"]:
    """The keys of a data folder that no server owns at present."""
    with _own(settings) as security:
        yield LocalKeyring(security)


class LocalKeyring:
    """Keys as plain records, straight from the store."""

    def __init__(self, security: "Security") -> None:
        self._keys = security.keys

    def create(self, wishes: dict[str, Any]) -> dict[str, Any]:
        key, secret = asyncio.run(self._keys.create(**wishes))
        return msgspec.structs.asdict(key) | {"secret": secret}

    def list(self) -> list[dict[str, Any]]:
        return [msgspec.structs.asdict(key) for key in asyncio.run(self._keys.list())]

    def revoke(self, key_id: str) -> None:
        asyncio.run(self._keys.revoke(key_id))


@contextmanager
def _own(settings: "Settings") -> Iterator["Security"]:
    """Store and security, while this process owns the data folder."""
    from pileus.security.service import Security
    from pileus.store.sqlite import SqliteStore

    store = SqliteStore.open(settings.data_dir)
    try:
        security = Security.open(settings.data_dir, store, SystemClock())
        try:
            yield security
        finally:
            security.close()
    finally:
        store.close()


# --- the replica ------------------------------------------------------------------------------------------------------


def run_worker() -> None:
    """One replica: reads its `ReplicaCommand` from standard input, serves until it is told to end, and exits."""
    from pileus.engines.replica.process import die_with_parent, refuse
    from pileus.engines.replica.server import serve
    from pileus.models.artefact import verify
    from pileus.observability import events

    die_with_parent()
    command = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaCommand)
    spec = command.spec
    events.configure(spec["log_level"], "json")
    try:
        driver = load_driver(spec["engine"])
        path = Path(spec["model_path"]) if spec["model_path"] else None
        if driver.needs_model and path is not None:
            verify(path)
        options = driver.options.model_validate(spec["options"])
        engine = driver.open(EngineSpec(spec["model"], path, options, spec["context_length"]))
    except OperatorError as error:
        sys.exit(refuse(error))
    sys.exit(serve(engine, address=command.address, replica=command.replica, epoch=command.epoch))


# --- the server -------------------------------------------------------------------------------------------------------


def run_server(loaded: "Loaded", *, listener: Listener | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then drain. Raises `OperatorError` where that cannot begin."""
    import uvloop

    from pileus.observability import events

    began = perf_counter()
    check(loaded)
    settings = loaded.settings
    events.configure(settings.log.level, settings.log.format)
    with ExitStack() as stack:
        security = stack.enter_context(_own(settings))
        listening = stack.enter_context(_listen(settings.server.host, settings.server.port))
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pileus-")))
        artefacts = _artefacts(settings, listener)
        uvloop.run(_Server(settings, security, artefacts, listener, began).run(listening, run_dir))


class _Server:
    """The server's parts, from the fleet up to the socket, and their order of start and stop."""

    def __init__(
        self,
        settings: "Settings",
        security: "Security",
        artefacts: Mapping[str, "Artefact | None"],
        listener: Listener | None,
        began: float,
    ) -> None:
        self._settings = settings
        self._security = security
        self._artefacts = artefacts
        self._listener = listener
        self._began = began
        self._stops_asked = 0

    async def run(self, listening: socket.socket, run_dir: Path) -> None:
        from pileus.fleet.backends.local import LocalStarter
        from pileus.fleet.controller import Fleet

        fleet = Fleet(self._deployments(), LocalStarter(), run_dir=run_dir, clock=SystemClock())
        fleet.start()
        try:
            # The replicas load while the web framework does.
            await asyncio.to_thread(import_module, "pileus.api.app")
            await self._serve(fleet, listening)
        finally:
            await fleet.drain_and_stop(_LAST_GRACE_S)

    async def _serve(self, fleet: "Fleet", listening: socket.socket) -> None:
        from pileus.observability.metrics import Metrics
        from pileus.observability.series import Series
        from pileus.observability.tracing import open_tracer

        tracer = open_tracer(self._settings.telemetry.otlp_endpoint, __version__)
        metrics = Metrics()
        series = Series(metrics)
        pipeline = self._pipeline(fleet, metrics, tracer)
        metrics.observe_with(lambda: _samples(fleet, pipeline))
        server = self._api(fleet, pipeline, metrics, series)
        self._watch_signals(server)
        serving = asyncio.create_task(server.serve([listening]))
        announcing = asyncio.create_task(self._announce(fleet, listening))
        background = [asyncio.create_task(_sample(series)), asyncio.create_task(self._security.run()), announcing]
        try:
            await asyncio.wait({serving, announcing}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()
            await serving
        finally:
            server.should_exit = True
            await serving
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            tracer.close()

    def _deployments(self) -> "list[Deployment]":
        from pileus.fleet.records import Deployment, DeploymentInfo

        return [
            Deployment(
                info=DeploymentInfo(
                    name=wanted.name,
                    model=wanted.model,
                    engine=wanted.engine,
                    aliases=wanted.aliases,
                    price=Price(wanted.price.prompt, wanted.price.completion),
                ),
                spec={
                    "engine": wanted.engine,
                    "model": wanted.model,
                    "model_path": str(artefact.path) if artefact else None,
                    "context_length": artefact.context_length if artefact else 0,
                    "options": wanted.options,
                    "log_level": self._settings.log.level,
                },
                replicas=wanted.replicas,
            )
            for wanted in self._settings.deployment
            for artefact in [self._artefacts[wanted.model]]
        ]

    def _pipeline(self, fleet: "Fleet", metrics: "Metrics", tracer: "Tracer") -> "Pipeline":
        from pileus.gateway.pipeline import Pipeline
        from pileus.gateway.settle import Settlement

        clock = SystemClock()
        tokenizers = {model: _tokenizer(artefact) for model, artefact in self._artefacts.items()}
        return Pipeline(
            self._settings,
            fleet.directory,
            {wanted.name: tokenizers[wanted.model] for wanted in self._settings.deployment},
            Settlement(self._security.ledger, metrics, tracer, clock),
            self._security.salt,
            clock,
        )

    def _api(self, fleet: "Fleet", pipeline: "Pipeline", metrics: "Metrics", series: "Series") -> "ApiServer":
        from pileus.api.app import create_app
        from pileus.api.server import create_server
        from pileus.api.services import Services

        services = Services(
            settings=self._settings,
            pipeline=pipeline,
            directory=fleet.directory,
            keys=self._security.keys,
            audit=self._security.audit,
            metrics=metrics,
            series=series,
            version=__version__,
            started_at=SystemClock().wall(),
        )
        return create_server(create_app(services), self._settings.server)

    def _watch_signals(self, server: "ApiServer") -> None:
        """The first stop lets requests finish, the second does not."""

        def stop() -> None:
            self._stops_asked += 1
            server.should_exit = True
            server.force_exit = self._stops_asked > 1
            if self._listener and self._stops_asked == 1:
                self._listener.stopping()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)

    async def _announce(self, fleet: "Fleet", listening: socket.socket) -> None:
        """Wait for every deployment, make the first key, and tell the listener."""
        for name in fleet.directory.deployments():
            await fleet.wait_ready(name, READY_TIMEOUT_S)
        if self._listener is None:
            return
        admin_key = None
        if not await self._security.keys.list():
            _, admin_key = await self._security.keys.create("admin", "admin")
        host, port = listening.getsockname()[:2]
        self._listener.ready(
            Ready(
                url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
                models=fleet.directory.deployments(),
                admin_key=admin_key,
                took_s=perf_counter() - self._began,
            )
        )


def _artefacts(settings: "Settings", listener: Listener | None) -> "dict[str, Artefact | None]":
    """Every deployed model, pulled where it is not here yet."""
    catalogue = open_catalogue(settings)
    progress = listener.progress if listener else lambda stage, done, total: None
    return {
        model: None if model == FAKE_MODEL else catalogue.ensure(model, progress)
        for model in dict.fromkeys(wanted.model for wanted in settings.deployment)
    }


def _tokenizer(artefact: "Artefact | None") -> "Tokenizer":
    from pileus.models.tokenizer import load_tokenizer
    from pileus.testing.tokenizer import ByteTokenizer

    return ByteTokenizer() if artefact is None else load_tokenizer(artefact.path)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket; connections wait in it until the server is up. Raises `OperatorError` for a taken port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise OperatorError(f"port {port} of {host} is taken: stop what listens there, or choose --port") from None
        raise OperatorError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose --host and --port"
        ) from None
    with listening:
        yield listening


async def _sample(series: "Series") -> None:
    """A point for the console's charts every second."""
    clock = SystemClock()
    while True:
        series.sample(clock.wall(), clock.monotonic())
        await asyncio.sleep(_SAMPLE_INTERVAL_S)


def _samples(fleet: "Fleet", pipeline: "Pipeline") -> "list[DeploymentSample]":
    """What the metrics show of the fleet and of the queues."""
    from pileus.fleet.lifecycle import Phase
    from pileus.observability.figures import DeploymentSample, ReplicaSample

    return [
        DeploymentSample(
            deployment=deployment.info.name,
            waiting=pipeline.waiting(deployment.info.name),
            replicas=tuple(
                ReplicaSample(
                    replica=replica.id,
                    up=replica.state == Phase.READY,
                    epoch=replica.epoch,
                    restarts=replica.restarts,
                    stats=replica.stats,
                )
                for replica in deployment.replicas
            ),
        )
        for deployment in fleet.status()
    ]
