"""The figures of a run as a CSV table, with the columns that OpenAI's has."""

import csv
import io
from collections.abc import Sequence
from typing import Final

from pileus.jobs.metrics import MetricPoint

# Column, and what it is called here.
_COLUMNS: Final = (
    ("train_loss", "train_loss"),
    ("train_accuracy", "train_mean_token_accuracy"),
    ("valid_loss", "valid_loss"),
    ("valid_mean_token_accuracy", "valid_mean_token_accuracy"),
    ("train_reward_accuracy", "train_reward_accuracy"),
    ("valid_reward_accuracy", "valid_reward_accuracy"),
    ("learning_rate", "learning_rate"),
)


def metrics_table(points: Sequence[MetricPoint]) -> bytes:
    """One row a step; a cell is empty where nothing was measured."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("step", *(column for column, _ in _COLUMNS)))
    for point in points:
        table.writerow((point.step, *(_cell(point.values.get(name)) for _, name in _COLUMNS)))
    return text.getvalue().encode()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
