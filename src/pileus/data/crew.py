"""Several processes for work that falls into pieces."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from pileus.engines.replica.process import die_with_parent

Result = TypeVar("Result")


def run_each(
    work: Callable[..., Result], pieces: Sequence[tuple[Any, ...]], processes: int, is_asked: Callable[[], bool]
) -> Iterator[Result]:
    """What `work` gives for each piece, as they are done. Once `is_asked`, no further piece begins. The processes are
    as many as asked for, or as there are cores where that is 0; a single one is this one."""
    count = min(processes or len(os.sched_getaffinity(0)), len(pieces))
    if count < 2:
        for piece in pieces:
            if is_asked():
                return
            yield work(*piece)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), die_with_parent) as executor:
        rest = iter(pieces)
        running: set[Future[Result]] = {executor.submit(work, *piece) for piece in islice(rest, count)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                following = None if is_asked() else next(rest, None)
                if following is not None:
                    running.add(executor.submit(work, *following))
