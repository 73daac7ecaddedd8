"""A process that a test's job computes in: what it does is its spec's word."""

import os
import signal
import time
from importlib import import_module

from msgspec import Struct

from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.store.job_table import Wish


class Spec(Struct, frozen=True):
    act: str


class Seen(Struct, frozen=True):
    steps: int


def work(task: Task) -> Seen | Yielded:
    act, seen = task.spec(Spec).act, task.last(Seen) or Seen(0)
    print("a library prints this")
    if act == "refuse":
        raise JobFailed("line 3 is no JSON", code="bad_data")
    if act == "lack":
        import_module("torch_of_tomorrow.nn")
    if act == "lose":
        import_module("pileus.nothing")
    if act == "crash":
        raise RuntimeError("out of luck")
    if act == "spin":
        print("spins", os.environ["GOMP_SPINCOUNT"])
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    task.log(str(task.settings.data_dir) if act == "where" else f"port {task.settings.server.port}")
    task.metrics.add(seen.steps, {"loss": 1.0 / (seen.steps + 1), "bad": float("nan")})
    task.checkpoint(Seen(seen.steps + 1), "counting", seen.steps + 1, 10)
    if act == "wait":
        while task.wish is Wish.NONE:
            time.sleep(0.01)
        return YIELDED
    return Seen(seen.steps + 1)


if __name__ == "__main__":
    run_task(work)
