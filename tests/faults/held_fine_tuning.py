"""A fine-tuning's process that gets as far as the checkpoint of a step, and waits there until it is killed:
`python -m held_fine_tuning`, with the step in `HELD_AT`."""

import os
import signal
from typing import Any

from pileus.jobs.task import Task, run_task
from pileus.training.finetune.process import work
from pileus.training.finetune.records import FineTuneCheckpoint

tell = Task.checkpoint


def tell_and_wait(task: Task, record: FineTuneCheckpoint, *how_far: Any) -> None:
    tell(task, record, *how_far)
    while record.step == int(os.environ["HELD_AT"]):
        signal.pause()


if __name__ == "__main__":
    Task.checkpoint = tell_and_wait  # type: ignore[method-assign, assignment]
    run_task(work)
