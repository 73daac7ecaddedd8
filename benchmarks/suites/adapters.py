"""Adapters in one batch against the base alone, on the same engine: the same prompts, in turns, round by round.

The adapters are random, of rank 16, and change every projection: what they say does not matter here, and what they cost
does not depend on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import batch_lines, lone_engine
from benchmarks.batch_lines import Load
from benchmarks.engines import Setting
from benchmarks.lone_engine import LoneEngine, Order
from benchmarks.pileus_server import pull
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__
from pileus.core.ports import AdapterSource
from pileus.models.adapter import adapter_id, belonging_to
from pileus.models.artefact import load_artefact
from pileus.models.low_rank import install_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.testing.adapters import SMOLLM2, random_tensors, write_adapter

SUITE = "adapters"
DECODE, READ = "adapters-decode", "adapters-read"
BASE, ONE, MIXED = "base", "one-adapter", "twenty-adapters"
LOADS = {
    DECODE: Load("32 at once, about 20 tokens in / 96 out", 32, 1, 0, 6, 96),
    READ: Load("32 at once, about 200 tokens in / 16 out", 32, 1, 0, 90, 16),
}
_WARM_UP = Load("warm-up", 32, 1, 0, 6, 8)
_ADAPTERS, _RANK, _LAYERS = 20, 16, 30
_OPTIONS: dict[str, Any] = {"max_sequences": 32, "kv_bytes": 160 << 20, "adapters": _ADAPTERS}
_TITLES = {BASE: "the base alone", ONE: "one adapter for all", MIXED: f"{_ADAPTERS} adapters, in turn"}


async def measure(run: Run, setting: Setting, chosen: Sequence[str], *, quick: bool) -> None:
    """One process for all: it is the step that is compared."""
    loads = {name: load for name, load in LOADS.items() if name in chosen}
    if not loads:
        return
    model = pull(setting.cache, run.say).artefact
    sources = make_adapters(setting.cache / "adapters", model)
    run.results.titles |= {name: load.title for name, load in loads.items()}
    for target, title in _TITLES.items():
        settings = f"rank {_RANK}, every projection, {_OPTIONS}" if target != BASE else str(_OPTIONS)
        run.take_part(Target(target, title, __version__, "default", settings))
    engine = lone_engine.start(setting, model, _OPTIONS, setting.logs / f"{SUITE}.log", sources)
    for target in _TITLES:
        await _seconds(engine, _WARM_UP, 0, target, sources)
    with run.progress(SUITE, run.rounds * len(loads) * len(_TITLES)) as step:
        for name, load in loads.items():
            for number in range(1, (1 if quick else run.rounds) + 1):
                seconds = {}
                for target in _turns(number):
                    step(f"{load.title}, round {number}: {_TITLES[target]}")
                    seconds[target] = await _seconds(engine, load, number, target, sources)
                _keep(run, name, load, number, seconds)


def make_adapters(folder: Path, model: Path) -> list[AdapterSource]:
    """As many as are measured, installed in a models folder of their own; once per machine."""
    store, base, sources = ModelStore(folder / "models"), belonging_to(load_artefact(model)), []
    for number in range(_ADAPTERS):
        name = f"random-{number}"
        with store.hold(name, silent):
            if (artefact := store.artefact(name)) is None:
                tensors = random_tensors(number, _RANK, layers=_LAYERS, sizes=SMOLLM2, size=0.02)
                written = write_adapter(folder / "peft", tensors, _RANK)
                artefact = install_adapter(written, name, base, store, source="random")
        sources.append(AdapterSource(adapter_id(artefact), str(artefact.path)))
    return sources


async def _seconds(engine: LoneEngine, load: Load, number: int, target: str, sources: Sequence[AdapterSource]) -> float:
    """Who takes turns asks the same; an adapter's prefixes are its own, and the base's were asked by nobody else."""
    asked = batch_lines.prompts(load, number)
    several = {BASE: [""], ONE: [sources[0].id], MIXED: [source.id for source in sources]}[target]
    return await engine.seconds(
        Order(asked, load.output_tokens, [several[place % len(several)] for place in range(len(asked))])
    )


def _turns(number: int) -> list[str]:
    """Everyone moves up by one place in each round."""
    order = list(_TITLES)
    return [order[(place + number) % len(order)] for place in range(len(order))]


def _keep(run: Run, name: str, load: Load, number: int, seconds: Mapping[str, float]) -> None:
    tokens = load.lines * load.output_tokens
    for target, took_s in seconds.items():
        ratio = {} if target == BASE else {"ratio": seconds[BASE] / took_s}
        run.keep(SUITE, name, target, number, {"tokens_per_s": tokens / took_s, **ratio})
