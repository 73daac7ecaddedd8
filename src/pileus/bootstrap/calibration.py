"""Measure the engine of one deployment, in this process and with nothing else to do."""

from collections.abc import Callable
from time import strftime
from typing import TYPE_CHECKING, cast

from pileus.bootstrap import ENCODERS, FAKE_MODELS, load_driver
from pileus.bootstrap.engines import CHOICE
from pileus.bootstrap.local import check, open_catalogue
from pileus.core.errors import ConfigError
from pileus.core.ports import EngineSpec

if TYPE_CHECKING:
    from pileus.config.load import Loaded
    from pileus.core.ports import Engine
    from pileus.simulation.calibration import Calibration


def calibrate(loaded: "Loaded", name: str, progress: Callable[[str, int, int], None]) -> "Calibration":
    """Raises `ConfigError` where there is no such deployment."""
    from pileus.simulation.fit import calibrate as measured

    check(loaded)
    deployments = {deployment.name: deployment for deployment in loaded.settings.deployment}
    if name not in deployments:
        raise ConfigError(f"there is no deployment {name!r}; there is: {', '.join(deployments)}")
    catalogue, wanted = open_catalogue(loaded.settings), deployments[name]
    wanted = CHOICE.with_engine(wanted, CHOICE.kind_of(catalogue, wanted.model))
    driver = load_driver(wanted.engine)
    options = driver.options(**wanted.options)
    if wanted.engine in ENCODERS:
        raise ConfigError(f"{name} is an encoder: only engines that generate text are calibrated")
    artefact = None if wanted.model in FAKE_MODELS else catalogue.ensure(wanted.model, progress)
    path, context = (artefact.path, artefact.context_length) if artefact else (None, 0)
    engine = cast("Engine", driver.open(EngineSpec(wanted.model, path, options, context)))
    try:
        source = f"{name} ({wanted.model}, {wanted.engine}), measured on {strftime('%Y-%m-%d')}"
        return measured(
            engine,
            getattr(options, "step_tokens", None),
            source,
            lambda done, total: progress("measuring", done, total),
        )
    finally:
        engine.close()
