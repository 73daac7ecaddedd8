"""Random histories of jobs: very many over the pure rules, and some over the real service and a real store."""

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from pileus.store.sqlite import SqliteStore
from unit.jobs.histories import History, Owner, PureOwner
from unit.jobs.stored_owner import StoredOwner

SEED = int(os.environ.get("PILEUS_HISTORIES_SEED") or random.randrange(1 << 32))
STEPS = 24


def run_histories(count: int, owner: Callable[[int], Owner]) -> None:
    print(f"PILEUS_HISTORIES_SEED={SEED}")
    for number in range(count):
        try:
            History(SEED + number, owner(number)).run(STEPS)
        except Exception as error:
            raise AssertionError(f"the first history of PILEUS_HISTORIES_SEED={SEED + number}") from error


def test_no_history_breaks_what_a_job_promises() -> None:
    run_histories(100_000, lambda _: PureOwner())


def test_the_service_on_a_store_answers_as_the_rules_do(memory_path: Path) -> None:
    empty, place = memory_path / "empty", memory_path / "store"
    SqliteStore.open(empty).close()
    with asyncio.Runner() as runner, ExitStack() as stack:

        def fresh(_: int) -> Owner:
            stack.close()
            stack.callback(shutil.rmtree, place)
            return stack.enter_context(closing(StoredOwner(shutil.copytree(empty, place), runner)))

        run_histories(150, fresh)
