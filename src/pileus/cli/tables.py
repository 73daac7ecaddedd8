"""Lines of a batch out of a table: each row of a CSV file fills a template."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from json import dumps
from pathlib import Path
from typing import Any

from pileus.core.errors import OperatorError

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
CUSTOM_ID = "row-{}"


def batch_lines(path: Path, template: str, system: str | None, body: Mapping[str, Any]) -> Iterator[str]:
    """A chat request for each row: `template` with `{column}` filled in as the user's turn, after `system` if there is
    one. `body` holds the other fields. Raises `OperatorError` for a template or a table that cannot be read so."""
    head = [{"role": "system", "content": system}] if system else []
    for number, row in enumerate(rows(path, _fields(template)), start=1):
        messages = [*head, {"role": "user", "content": _fill(template, row)}]
        line = {
            "custom_id": CUSTOM_ID.format(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**body, "messages": messages},
        }
        yield dumps(line, ensure_ascii=False) + "\n"


def rows(path: Path, wanted: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """The rows of a CSV file in UTF-8 by the names of its columns, which must have those that are wanted."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns = reader.fieldnames or ()
            if missing := [name for name in wanted if name not in columns]:
                there = ", ".join(columns) or "none"
                raise OperatorError(f"{path} has no column {missing[0]!r}; it has: {there}")
            for row in reader:
                if len(row) != len(columns) or None in row.values():
                    raise OperatorError(f"{path}, line {reader.line_num}: this row has not {len(columns)} columns")
                yield row
        except UnicodeDecodeError:
            raise OperatorError(f"{path} is not in UTF-8: save it so") from None
        except csv.Error as error:
            raise OperatorError(f"{path}, line {reader.line_num}: {error}") from None


def _fields(template: str) -> list[str]:
    found = list(_FIELD.finditer(template))
    if any(each[1] == "" for each in found):
        raise OperatorError("the template has {} without a column's name: write {{}} for braces that shall stay")
    return [each[1] for each in found if each[1] is not None]


def _fill(template: str, row: Mapping[str, str]) -> str:
    """`{{` and `}}` are braces."""
    return _FIELD.sub(lambda found: row[found[1]] if found[1] else found[0][0], template)
