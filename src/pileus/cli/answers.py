"""Answers of a batch back into the table that its questions came from."""

import csv
from json import loads
from pathlib import Path
from typing import Any

from pileus.cli.tables import CUSTOM_ID, rows

COLUMN = "answer"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute, or open


def save_answers(table: Path, answers: Path, target: Path) -> None:
    """The rows of a CSV file with one more column, which is empty where there is no answer. Written whole or not. An
    answer that a spreadsheet would take for a formula gets an apostrophe in front."""
    texts = _texts(answers)
    draft = target.with_name(f"{target.name}.part")
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for number, row in enumerate(rows(table), start=1):
            if number == 1:
                writer.writerow([*row, COLUMN])
            writer.writerow([*row.values(), _plain(texts.get(CUSTOM_ID.format(number), ""))])
    draft.rename(target)


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _texts(answers: Path) -> dict[str, str]:
    """The first choice's text by `custom_id`."""
    with answers.open(encoding="utf-8") as lines:
        each: list[dict[str, Any]] = [loads(line) for line in lines]
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in each}
