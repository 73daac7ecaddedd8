"""Rows of text from files that people bring: read line by line, and what is wrong is told with the line's number."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pileus.data.shards import MANIFEST
from pileus.jobs.handler import JobFailed

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_JSON: Final = (".jsonl", ".ndjson", ".json")


def read_rows(files: Sequence[Path], fields: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The fields of each row, as texts with something in them.

    JSONL names them in each line, CSV in its first line; TSV (and .txt with tabs) does so, or else has them in this
    order. Raises `JobFailed` with the file and the line for what is not so.
    """
    for file in files:
        rows = _json_rows(file, fields) if file.suffix.lower() in _JSON else _table_rows(file, fields)
        for line, row in rows:
            if empty := next((name for name, value in zip(fields, row, strict=True) if not value.strip()), None):
                raise _bad(file, line, f"`{empty}` is empty")
            yield row


def read_texts(files: Sequence[Path]) -> Iterator[str]:
    """Documents: the field `text` of each row of JSONL, or else each file as it is, in pieces of some lines."""
    for file in files:
        if file.suffix.lower() in _JSON:
            yield from (text for (text,) in read_rows([file], ("text",)))
        else:
            yield from _pieces(file)


def demand_files(files: Iterable[Path]) -> None:
    """Raises `JobFailed` where one is not there, or is no file."""
    for file in files:
        if (file / MANIFEST).is_file():
            raise JobFailed(f"{file} is a prepared dataset: `gpt` and `bert` take one, by itself", code="bad_data")
        if file.is_dir():
            raise JobFailed(
                f"{file} is a folder: name its files, or make a dataset of it with `pileus data prepare`",
                code="bad_data",
            )
        if not file.is_file():
            raise JobFailed(f"there is no file {file}", code="bad_data")


def _json_rows(file: Path, fields: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for line, text in _lines(file):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise _bad(file, line, f"this is no JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise _bad(file, line, "this is no JSON object")
        yield line, tuple(_text_of(row, name, file, line) for name in fields)


def _text_of(row: dict[str, Any], name: str, file: Path, line: int) -> str:
    value = row.get(name)
    if value is None:
        raise _bad(file, line, f"`{name}` is missing")
    if isinstance(value, bool | int | float | str):
        return str(value)
    raise _bad(file, line, f"`{name}` is no text")


def _table_rows(file: Path, fields: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    delimiter = _DELIMITERS.get(file.suffix.lower())
    if delimiter is None:
        raise JobFailed(f"{file} should be .jsonl, .csv, .tsv, or .txt with tabs", code="bad_data")
    csv.field_size_limit(sys.maxsize)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = csv.reader(_decoded(file, opened), delimiter=delimiter, quotechar='"' if delimiter == "," else None)
        places: list[int] | None = None
        for row in rows:
            if places is None:
                places = _places(file, row, fields, has_head=delimiter == ",")
                if set(fields) <= set(row):
                    continue
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(places):
                raise _bad(file, rows.line_num, f"it has {len(row)} of at least {max(places) + 1} columns")
            yield rows.line_num, tuple(row[place] for place in places)


def _places(file: Path, head: list[str], fields: Sequence[str], *, has_head: bool) -> list[int]:
    """In which columns the fields are."""
    if set(fields) <= set(head):
        return [head.index(name) for name in fields]
    if has_head:
        missing = next(name for name in fields if name not in head)
        raise _bad(file, 1, f"it names no column `{missing}`")
    return list(range(len(fields)))


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8-sig") as opened:
        for number, text in enumerate(_decoded(file, opened), 1):
            if text.strip():
                yield number, text


def _decoded(file: Path, opened: Iterable[str]) -> Iterator[str]:
    number = 0
    try:
        for number, text in enumerate(opened, 1):  # noqa: B007  # told where decoding fails
            yield text
    except UnicodeDecodeError:
        raise _bad(file, number + 1, "about here it is no UTF-8") from None


def _pieces(file: Path, characters: int = 1 << 16) -> Iterator[str]:
    lines: list[str] = []
    length = 0
    with file.open(encoding="utf-8-sig") as opened:
        for text in _decoded(file, opened):
            lines.append(text)
            length += len(text)
            if length >= characters:
                yield "".join(lines)
                lines, length = [], 0
    if length:
        yield "".join(lines)


def _bad(file: Path, line: int, what: str) -> JobFailed:
    return JobFailed(f"{file.name}, line {line}: {what}", code="bad_data")
