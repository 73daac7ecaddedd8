"""The texts of evaluation sets, in whatever form those come: every text that is in them."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pileus.core.errors import OperatorError
from pileus.data.inputs import find, format_of
from pileus.data.lines import opened


def texts_of(inputs: Sequence[str]) -> Iterator[str]:
    """Each line of plain text, each cell of a table, each string in JSON. Raises `OperatorError` for what is not there
    or cannot be read: nothing would be kept out by it."""
    known, others = find(inputs)
    for path in [*known, *others]:
        try:
            yield from _of_file(path)
        except (OSError, UnicodeDecodeError, csv.Error, msgspec.DecodeError) as error:
            raise OperatorError(f"the evaluation set {path} cannot be read: {error}") from None


def _of_file(path: Path) -> Iterator[str]:
    form = format_of(path)
    if form == "parquet":
        yield from _of_parquet(path)
    elif path.suffix.lower() == ".json":
        yield from _strings(msgspec.json.decode(path.read_bytes()))
    elif form == "jsonl":
        with opened(str(path)) as lines:
            for line in lines:
                yield from _strings(msgspec.json.decode(line)) if line.strip() else ()
    elif form == "csv":
        with path.open(encoding="utf-8-sig", newline="") as table:
            for row in csv.reader(table, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
                yield from row
    else:
        with opened(str(path)) as lines:
            for line in lines:
                yield line.decode()


def _of_parquet(path: Path) -> Iterator[str]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as table:
        for batch in table.iter_batches(256):
            yield from _strings(batch.to_pylist())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
