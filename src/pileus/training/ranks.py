"""One run in one or several processes: the first is the job's own, and starts the others, which die with it."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from msgspec import Struct

from pileus.engines.replica.process import die_with_parent
from pileus.jobs.memory import keep_freed_memory
from pileus.training.loop import Loop, Outcome, Watcher
from pileus.training.parallel import Group
from pileus.training.plan import Plan
from pileus.training.recipes import open_recipe
from pileus.training.recipes.recipe import OpenRecipe, Setting
from pileus.training.spec import Train

_GOODBYE_S = 30.0


class Work(Struct, frozen=True, kw_only=True):
    """What each process of a run is given."""

    spec: Train
    folder: str  # where checkpoints go
    data: str
    base: str | None
    rendezvous: str = ""


class Trained(Struct, frozen=True):
    """What came of it."""

    outcome: Outcome
    recipe: OpenRecipe | None = None  # with the trained model, on the CPU; in the first process, once the run has ended


class _Nobody:
    """A `Watcher` of the other processes: only the first one's is heard."""

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        pass

    def kept(self, step: int, steps: int) -> None:
        pass

    def stops(self) -> bool:
        return False


def run(work: Work, watcher: Watcher) -> Trained:
    """Train, from the newest checkpoint on; with as many processes as the plan says."""
    settle(work.spec)
    if work.spec.processes == 1:
        return _take_part(work, Group(), watcher)
    met = Path(work.folder) / f".rendezvous-{os.getpid()}"
    met.unlink(missing_ok=True)
    work = msgspec.structs.replace(work, rendezvous=str(met))
    try:
        with _others(work):
            return _take_part(work, Group(0, work.spec.processes, work.spec.parallel), watcher)
    finally:
        met.unlink(missing_ok=True)


def settle(plan: Plan) -> None:
    """Have this process use the machine as a training should: its share of the cores, and memory that it keeps."""
    keep_freed_memory()
    torch.set_num_threads(plan.threads or max(1, len(os.sched_getaffinity(0)) // plan.processes))


def _take_part(work: Work, group: Group, watcher: Watcher) -> Trained:
    setting = Setting(work.spec, Path(work.data), Path(work.base) if work.base else None)
    if work.rendezvous:
        group.join(Path(work.rendezvous))
    try:
        recipe = open_recipe(setting)
        loop = Loop(recipe.model, recipe, work.spec, Path(work.folder), group)
        outcome = loop.run(watcher)
        weights = loop.final_weights() if outcome.ended else {}
    finally:
        group.leave()
    if not (outcome.ended and group.is_first):
        return Trained(outcome)
    del recipe, loop
    trained = open_recipe(setting)  # anew, for the model of the loop may be in shares
    trained.model.load_state_dict(weights)
    trained.model.eval()
    return Trained(outcome, trained)


def _be_one_of_them(rank: int, work: bytes) -> None:
    die_with_parent()
    given = msgspec.json.decode(work, type=Work)
    settle(given.spec)
    _take_part(given, Group(rank, given.spec.processes, given.spec.parallel), _Nobody())


@contextmanager
def _others(work: Work) -> Iterator[None]:
    """All but the first. Where one fails, the others' next exchange fails too."""
    spawning = multiprocessing.get_context("spawn")
    encoded = msgspec.json.encode(work)
    started = []
    try:
        for rank in range(1, work.spec.processes):
            process = spawning.Process(target=_be_one_of_them, args=(rank, encoded), daemon=True)
            process.start()
            started.append(process)
        yield
        for process in started:
            process.join(_GOODBYE_S)
    finally:
        for process in started:
            process.kill()
            process.join()
