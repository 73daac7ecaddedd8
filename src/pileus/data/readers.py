"""Documents out of files, one after the other, in bounded memory. What cannot be read is told with its place, and the
rest is read nevertheless."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from pileus.data.boilerplate import main_text
from pileus.data.inputs import Slice
from pileus.data.lines import BROKEN, MAX_RECORD_BYTES, line_number, lines, opened
from pileus.data.records import Bad, Document, Record
from pileus.data.repair import decode

BY_FILE, BY_PARAGRAPH, BY_LINE = "file", "paragraph", "line"
DOCUMENTS: Final = (BY_FILE, BY_PARAGRAPH, BY_LINE)
_CUT_BYTES: Final = 16 << 10  # of a file that is too large to be one document
_WHOLE_BYTES: Final = 1 << 20
_ROWS: Final = 256
_HTML: Final = ("text/html", "application/xhtml")


def read(part: Slice, field: str, documents: str) -> Iterator[Record]:
    """All of a slice. `field` holds the text in JSONL, CSV and Parquet; `documents` says what is one in plain text."""
    try:
        if part.format == "text":
            yield from _text(part, documents)
        else:
            yield from _READERS[part.format](part, field)
    except BROKEN as error:
        yield Bad(part.path, f"cannot be read on: {error}")


def _text(part: Slice, documents: str) -> Iterator[Record]:
    """A file is one document. One of more than a megabyte is cut, at empty lines or else at ends of lines, into
    documents of about 16 KiB."""
    waiting: list[bytes] = []
    size = 0
    most = _WHOLE_BYTES if part.whole else _CUT_BYTES
    for offset, line in lines(part):
        if not line:
            yield Bad(_place(part, offset), f"the line has more than {MAX_RECORD_BYTES} bytes")
            continue
        is_empty = not line.strip()
        if documents == BY_LINE:
            if not is_empty:
                yield Document(decode(line)[0], part.path)
            continue
        is_full = (documents == BY_PARAGRAPH and is_empty) or size > 2 * most or (size > most and is_empty)
        if is_full and size:
            yield Document(decode(b"".join(waiting))[0], part.path)
            waiting, size = [], 0
            most = _CUT_BYTES
        if not (is_empty and not waiting):
            waiting.append(line)
            size += len(line)
    if waiting:
        yield Document(decode(b"".join(waiting))[0], part.path)


def _jsonl(part: Slice, field: str) -> Iterator[Record]:
    decoded = msgspec.json.Decoder().decode
    for offset, line in lines(part):
        if not line:
            yield Bad(_place(part, offset), f"the line has more than {MAX_RECORD_BYTES} bytes")
        elif line.strip():
            try:
                row = decoded(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                row = _other_json(line)
            record = _of_row(row, field, part.path) if isinstance(row, dict) else "is no JSON object"
            yield record if isinstance(record, Document) else Bad(_place(part, offset), record)


def _other_json(line: bytes) -> Any:
    """In an encoding that is not UTF-8; None for what is no JSON."""
    try:
        return msgspec.json.decode(decode(line)[0])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _csv(part: Slice, field: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    delimiter = "\t" if ".tsv" in Path(part.path).name.lower() else ","
    with opened(part.path) as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter)
        columns = next(reader, [])
        if field not in columns:
            yield Bad(f"{part.path}, line 1", f"there is no column {field!r}, but {', '.join(columns) or 'none'}")
            return
        place = columns.index(field)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Bad(f"{part.path}, line {reader.line_num}", str(error))
                continue
            if row is None:
                return
            if len(row) == len(columns):
                yield Document(row[place], part.path)
            elif row:
                yield Bad(f"{part.path}, line {reader.line_num}", f"the row has {len(row)} columns of {len(columns)}")


def _parquet(part: Slice, field: str) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(part.path) as table:
            if field not in table.schema_arrow.names:
                names = ", ".join(table.schema_arrow.names)
                yield Bad(part.path, f"there is no column {field!r}, but {names}")
                return
            number = 0
            for batch in table.iter_batches(_ROWS, columns=[field]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    record = _of_row({field: value}, field, part.path)
                    yield record if isinstance(record, Document) else Bad(f"{part.path}, row {number}", record)
    except ArrowException as error:
        yield Bad(part.path, f"is no Parquet file that can be read: {error}")


def _html(part: Slice, field: str) -> Iterator[Record]:
    with opened(part.path) as file:
        content = file.read(MAX_RECORD_BYTES + 1)
    yield _page(content, part.path)


def _warc(part: Slice, field: str) -> Iterator[Record]:
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    with Path(part.path).open("rb") as file:
        try:
            for record in ArchiveIterator(file):
                if (found := _of_record(record, part.path)) is not None:
                    yield found
        except ArchiveLoadFailed as error:
            yield Bad(f"{part.path}, byte {file.tell()}", f"is no WARC that can be read on: {error}")


def _of_record(record: Any, path: str) -> Record | None:
    """None for those that hold no page: requests, images and the like."""
    place = (
        f"{path}, {record.rec_headers.get_header('WARC-Target-URI') or record.rec_headers.get_header('WARC-Record-ID')}"
    )
    if record.rec_type == "conversion":
        return Document(decode(_payload(record.content_stream()))[0], place)
    if record.rec_type not in ("response", "resource"):
        return None
    headers = record.http_headers or record.rec_headers
    kind = (headers.get_header("Content-Type") or "").lower()
    if kind.startswith(_HTML):
        return _page(_payload(record.content_stream()), place)
    return Document(decode(_payload(record.content_stream()))[0], place) if kind.startswith("text/plain") else None


def _payload(stream: IO[bytes]) -> bytes:
    return stream.read(MAX_RECORD_BYTES + 1)


def _page(content: bytes, place: str) -> Record:
    if len(content) > MAX_RECORD_BYTES:
        return Bad(place, f"the page has more than {MAX_RECORD_BYTES} bytes")
    from lxml.etree import LxmlError

    try:
        text = main_text(decode(content)[0]) if content.strip() else ""
    except (LxmlError, RecursionError, ValueError) as error:
        return Bad(place, f"the page cannot be read: {error}")
    return Document(text, place) if text else Bad(place, "the page has no text")


def _of_row(row: Mapping[str, Any], field: str, path: str) -> Document | str:
    """The document, or what is wrong with the row."""
    value = row.get(field)
    if not isinstance(value, str):
        return f"there is no text in {field!r}" if field in row else f"there is no field {field!r}"
    return Document(value, path) if value.strip() else f"{field!r} is empty"


def _place(part: Slice, offset: int) -> str:
    return f"{part.path}, line {line_number(part, offset)}"


_READERS: Final[Mapping[str, Callable[[Slice, str], Iterator[Record]]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
    "html": _html,
    "warc": _warc,
}
