"""From answers to figures: scores with their intervals, pace, and the comparison of two models."""

from collections.abc import Iterator, Sequence

import numpy as np

from pileus.evaluation.asking import Answer
from pileus.evaluation.metrics import Metric, metric
from pileus.evaluation.records import Compared, Pace, Scored
from pileus.evaluation.statistics import Table, bootstrap, mcnemar, paired_bootstrap, permutation_test
from pileus.evaluation.tasks import Task


def scores(task: Task, answers: Sequence[Answer], seed: int) -> Iterator[Scored]:
    """One for each of the task's metrics."""
    failed = sum(bool(answer.error) for answer in answers)
    for name in task.metrics:
        by = metric(name)
        score = bootstrap(_table(by, task, answers), by.score, seed=seed)
        yield Scored(task=task.name, metric=name, items=len(answers), failed=failed, score=score)


def compare(task: Task, a: Sequence[Answer], b: Sequence[Answer], seed: int) -> Iterator[Compared]:
    """The first's scores less the second's."""
    for name in task.metrics:
        by = metric(name)
        first, second = _table(by, task, a), _table(by, task, b)
        yield Compared(
            task=task.name,
            metric=name,
            difference=paired_bootstrap(first, second, by.score, seed=seed),
            permutation_p=permutation_test(first, second, by.score, seed=seed),
            mcnemar_p=mcnemar(first[:, 0] > 0.5, second[:, 0] > 0.5) if by.is_binary else None,
        )


def pace(task: Task, answers: Sequence[Answer], parallel: int) -> Pace:
    """`tokens_per_s` is what `parallel` askers get who ask one question after another."""
    good = [answer for answer in answers if not answer.error] or list(answers)
    firsts = [answer.ttft_s for answer in good if answer.ttft_s is not None]
    totals = [answer.total_s for answer in good]
    tokens, busy_s = sum(answer.completion_tokens for answer in good), sum(totals)
    askers = min(parallel, len(good))
    return Pace(
        task=task.name,
        ttft_p50_s=float(np.quantile(firsts, 0.5)) if firsts else None,
        ttft_p95_s=float(np.quantile(firsts, 0.95)) if firsts else None,
        total_p50_s=float(np.quantile(totals, 0.5)),
        total_p95_s=float(np.quantile(totals, 0.95)),
        completion_tokens=tokens,
        tokens_per_s=tokens * askers / busy_s if busy_s else 0.0,
    )


def _table(by: Metric, task: Task, answers: Sequence[Answer]) -> Table:
    return by.table([answer.text for answer in answers], [item.references for item in task.items])
