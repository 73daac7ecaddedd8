"""Engines side by side. Within a round they take turns on the same prompts, each round begins with another one, and
whoever waits is paused: so a machine that warms up or slows down does it to all of them."""

from collections.abc import Sequence
from typing import TypeVar

from benchmarks.answers import BadAnswer
from benchmarks.engines import Engine
from benchmarks.figures import Figures, of_streams
from benchmarks.run import Run
from benchmarks.workloads import Workload, prompts

SUITE = "engines"
_WAKE_TOKENS = 4

_Engine = TypeVar("_Engine")


async def measure(run: Run, engines: Sequence[Engine], workloads: Sequence[Workload]) -> None:
    """All workloads, all rounds. An engine that fails a workload is reported, and sits that workload out."""
    for engine in engines:
        engine.process.pause()
    with run.progress("engines", len(workloads) * run.rounds * len(engines)) as step:
        for workload in workloads:
            run.results.titles[workload.name] = workload.title
            failed: set[str] = set()
            for number in range(1, run.rounds + 1):
                for engine in turns(engines, number):
                    step(f"{workload.title}, round {number}: {engine.target.title}")
                    if engine.target.name not in failed and not await _turn(run, engine, workload, number):
                        failed.add(engine.target.name)


def turns(engines: Sequence[_Engine], number: int) -> list[_Engine]:
    """The order of a round: everyone moves up by one place."""
    start = (number - 1) % len(engines)
    return [*engines[start:], *engines[:start]]


async def _turn(run: Run, engine: Engine, workload: Workload, number: int) -> bool:
    engine.process.resume()
    try:
        run.keep(SUITE, workload.name, engine.target.name, number, await _measure(engine, workload, number))
    except (BadAnswer, OSError) as error:
        run.miss(engine.target.name, workload.name, str(error))
        return False
    finally:
        engine.process.pause()
    return True


async def _measure(engine: Engine, workload: Workload, number: int) -> Figures:
    """The warm-up wakes a paused process, and brings a shared prefix into the cache where the workload says so."""
    asked = prompts(workload, number)
    await engine.generate([asked.warm_up], _WAKE_TOKENS)
    return of_streams(await engine.generate(asked.requests, workload.output_tokens))
