"""A hundred thousand random histories of jobs over the pure rules."""

import os
import random

from unit.jobs.histories import History, PureOwner

SEED = int(os.environ.get("PILEUS_HISTORIES_SEED") or random.randrange(1 << 32))
COUNT = 100_000
STEPS = 24


def test_no_history_breaks_what_a_job_promises() -> None:
    print(f"PILEUS_HISTORIES_SEED={SEED}")
    for number in range(COUNT):
        try:
            History(SEED + number, PureOwner()).run(STEPS)
        except Exception as error:
            raise AssertionError(f"see PILEUS_HISTORIES_SEED={SEED + number}, its first history") from error
