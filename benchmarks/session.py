"""Brings up who takes part, runs the suites in their order, and takes everything down again, whatever happens."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import gateways
from benchmarks.answers import BadAnswer
from benchmarks.engines import Engine, Setting
from benchmarks.engines.genai import open_genai
from benchmarks.engines.llamacpp import open_llamacpp
from benchmarks.engines.pileus import open_pileus
from benchmarks.engines.vllm import open_vllm
from benchmarks.peers import PeerUnavailable
from benchmarks.pileus_server import Weights, pull
from benchmarks.processes import StartError
from benchmarks.run import Run
from benchmarks.suites import access as access_suite
from benchmarks.suites import adapters as adapters_suite
from benchmarks.suites import batch as batch_suite
from benchmarks.suites import compression as compression_suite
from benchmarks.suites import data as data_suite
from benchmarks.suites import encoders as encoders_suite
from benchmarks.suites import engines as engines_suite
from benchmarks.suites import gateway as gateway_suite
from benchmarks.suites import inside as inside_suite
from benchmarks.suites import prefix as prefix_suite
from benchmarks.suites import simulator as simulator_suite
from benchmarks.suites import soak as soak_suite
from benchmarks.suites import spread as spread_suite
from benchmarks.suites import startup as startup_suite
from benchmarks.suites import training as training_suite
from benchmarks.suites.gateway import LOADS, OPEN
from benchmarks.workloads import WORKLOADS, Workload
from benchmarks.workloads import quick as shorter

SUITES = (
    "startup",
    "engines",
    "inside",
    "gateway",
    "access",
    "prefix",
    "simulator",
    "spread",
    "batch",
    "compression",
    "training",
    "encoders",
    "adapters",
    "data",
    "soak",
)
ENGINES = ("pileus", "genai", "vllm", "llamacpp")
ALL_WORKLOADS = (
    *(each.name for each in (*WORKLOADS, *LOADS, OPEN)),
    *access_suite.WORKLOADS,
    *prefix_suite.WORKLOADS,
    *simulator_suite.WORKLOADS,
    *spread_suite.LOADS,
    *batch_suite.LOADS,
    *compression_suite.LOADS,
    *training_suite.LOADS,
    *adapters_suite.LOADS,
    *data_suite.WORKLOADS,
    soak_suite.MANY,
    soak_suite.LONG,
)

_GATEWAY_DURATION_S, _GATEWAY_QUICK_S = 4.0, 1.0
_ACCESS_DURATION_S, _ACCESS_QUICK_S = 15.0, 4.0
_PREFIX_DURATION_S, _PREFIX_QUICK_S = 20.0, 4.0
_SIMULATOR_DURATION_S, _SIMULATOR_QUICK_S = 24.0, 8.0
_SPREAD_DURATION_S, _SPREAD_QUICK_S = 6.0, 2.0
_SOAK_REQUESTS, _SOAK_QUICK_REQUESTS = 1_000_000, 40_000
_SOAK_S, _SOAK_QUICK_S = 1800.0, 20.0

_Opened = TypeVar("_Opened")
Opening = Callable[[Setting, Path], Awaitable[Engine]]


async def measure(
    run: Run,
    setting: Setting,
    suites: Sequence[str],
    engines: Sequence[str],
    workloads: Sequence[str],
    mooncake: Path,
    text: Path | None,
    *,
    quick: bool,
) -> None:
    """Each suite on a machine that has nothing else of ours on it."""
    if "startup" in suites:
        pull(setting.cache, run.say)
        await _guarded(run, "pileus-up", startup_suite.measure(run, setting))
    if "engines" in suites or "inside" in suites:
        chosen = [workload for workload in WORKLOADS if workload.name in workloads]
        await _engines(run, setting, suites, engines, [shorter(each) for each in chosen] if quick else chosen)
        setting.family.close()
    if "gateway" in suites:
        await _gateways(run, setting, workloads, _GATEWAY_QUICK_S if quick else _GATEWAY_DURATION_S)
        setting.family.close()
    if "access" in suites:
        duration_s = _ACCESS_QUICK_S if quick else _ACCESS_DURATION_S
        await _guarded(run, access_suite.TARGET, access_suite.measure(run, setting, workloads, duration_s))
    if "prefix" in suites:
        duration_s = _PREFIX_QUICK_S if quick else _PREFIX_DURATION_S
        await prefix_suite.measure(run, setting, workloads, mooncake, duration_s)
    if "simulator" in suites:
        pull(setting.cache, run.say)
        duration_s = _SIMULATOR_QUICK_S if quick else _SIMULATOR_DURATION_S
        await _guarded(run, simulator_suite.REAL, simulator_suite.measure(run, setting, workloads, duration_s))
        setting.family.close()
    if "spread" in suites:
        duration_s = _SPREAD_QUICK_S if quick else _SPREAD_DURATION_S
        await _guarded(run, spread_suite.SUITE, spread_suite.measure(run, setting, workloads, duration_s))
        setting.family.close()
    if "batch" in suites:
        await _guarded(run, batch_suite.SUITE, batch_suite.measure(run, setting, workloads, quick=quick))
        setting.family.close()
    if "compression" in suites:
        work = compression_suite.measure(run, setting, workloads, text, quick=quick)
        await _guarded(run, compression_suite.SUITE, work)
        setting.family.close()
    if "training" in suites and training_suite.LOAD in workloads:
        await _guarded(run, training_suite.SUITE, training_suite.measure(run, quick=quick))
    if "encoders" in suites:
        await _guarded(run, encoders_suite.SUITE, encoders_suite.measure(run, setting, quick=quick))
        setting.family.close()
    if "adapters" in suites:
        await _guarded(run, adapters_suite.SUITE, adapters_suite.measure(run, setting, workloads, quick=quick))
        setting.family.close()
    if "data" in suites:
        await _guarded(run, data_suite.TARGET, data_suite.measure(run, workloads, quick=quick))
    if "soak" in suites:
        requests = (_SOAK_QUICK_REQUESTS if quick else _SOAK_REQUESTS) if soak_suite.MANY in workloads else 0
        seconds = (_SOAK_QUICK_S if quick else _SOAK_S) if soak_suite.LONG in workloads else 0.0
        await _guarded(run, soak_suite.TARGET, soak_suite.measure(run, setting, requests, seconds))


async def _engines(
    run: Run, setting: Setting, suites: Sequence[str], names: Sequence[str], workloads: Sequence[Workload]
) -> None:
    weights = pull(setting.cache, run.say)
    opened = await _guarded(run, "pileus", open_pileus(setting))
    present: list[Engine] = []
    if opened:
        run.take_part(opened[0].target)
        opened[0].process.pause()
        present += [opened[0]] if "pileus" in names else []
    if "engines" in suites:
        present += await _peers(run, setting, weights, names)
        await engines_suite.measure(run, present, workloads)
    if opened and "inside" in suites:
        await _guarded(run, "pileus", inside_suite.measure(run, *opened))


async def _peers(run: Run, setting: Setting, weights: Weights, names: Sequence[str]) -> list[Engine]:
    """Everyone else, one after the other; who comes up is paused while the next one starts."""
    openings: tuple[tuple[str, Opening, Path], ...] = (
        ("genai", open_genai, weights.artefact),
        ("vllm", open_vllm, weights.gguf),
        ("llamacpp", open_llamacpp, weights.gguf),
    )
    found: list[Engine] = []
    for name, opening, model in openings:
        if name in names and (engine := await _guarded(run, name, opening(setting, model))):
            engine.process.pause()
            run.take_part(engine.target)
            found.append(engine)
    return found


async def _gateways(run: Run, setting: Setting, workloads: Sequence[str], duration_s: float) -> None:
    if setting.threads < 2:
        run.miss("gateway", "everything", "it needs two cores: one for the gateway, one for all else")
        return
    bare = await _guarded(run, "bare", gateways.open_bare(setting))
    ours = await _guarded(run, "pileus-gateway", gateways.open_pileus(setting))
    litellm = await _guarded(run, "litellm", gateways.open_litellm(setting, bare)) if bare else None
    present = [gateway for gateway in (bare, ours, litellm) if gateway]
    for gateway in present:
        run.take_part(gateway.target)
    await gateway_suite.measure(run, present, [load for load in LOADS if load.name in workloads], duration_s)
    if ours and OPEN.name in workloads:
        await _guarded(run, "pileus-gateway", gateway_suite.measure_open_streams(run, ours))


async def _guarded(run: Run, name: str, work: Awaitable[_Opened]) -> _Opened | None:
    """A target that does not come up is told, and the others go on without it."""
    try:
        return await work
    except (PeerUnavailable, StartError, BadAnswer, OSError, TimeoutError) as error:
        run.miss(name, "everything", f"not available: {str(error) or type(error).__name__}")
        return None
