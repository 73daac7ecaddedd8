"""What people give, as pieces of work: files, folders and globs to pieces of about equal size, the same ones each
time."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from pileus.core.errors import OperatorError

_FORMATS: Final = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".warc": "warc",
    ".wet": "warc",
}
FORMATS: Final = tuple(dict.fromkeys(_FORMATS.values()))
_DIVISIBLE: Final = ("text", "jsonl")  # formats that can be read from any line on
GZIP: Final = ".gz"
PIECE_BYTES: Final = 32 << 20


class Slice(Struct, frozen=True):
    """A file, or what lies in it between two offsets."""

    path: str
    format: str
    begin: int
    end: int  # bytes
    whole: bool = True

    @property
    def size(self) -> int:
        return self.end - self.begin


Piece = tuple[Slice, ...]  # what is read in one go


def find(inputs: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The files that are meant, in order and each once; and those in folders and globs that are of no known format.
    Raises `OperatorError` for an input that is not there."""
    found: dict[Path, bool] = {}
    for given in inputs:
        path = Path(given)
        if path.is_file():
            found[path] = True  # whatever it is called
        elif path.is_dir():
            found |= {each: bool(format_of(each)) for each in sorted(path.rglob("*")) if each.is_file()}
        elif matches := sorted(glob.glob(given, recursive=True)):  # noqa: PTH207  # `Path` knows no absolute ones
            found |= {Path(each): bool(format_of(Path(each))) for each in matches if Path(each).is_file()}
        else:
            raise OperatorError(f"there is no {given}")
    return [path for path, known in found.items() if known], [path for path, known in found.items() if not known]


def format_of(path: Path) -> str:
    """By its name; empty for one that is not known."""
    name = path.name.lower().removesuffix(GZIP)
    return _FORMATS.get(f".{name.rpartition('.')[2]}", "") if "." in name else ""


def pieces(files: Iterable[Path], piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Large files in slices where their format allows it, small ones together."""
    made: list[Piece] = []
    waiting: list[Slice] = []
    for part in _slices(files, piece_bytes):
        if waiting and sum(each.size for each in waiting) + part.size > piece_bytes:
            made.append(tuple(waiting))
            waiting = []
        waiting.append(part)
    return [*made, tuple(waiting)] if waiting else made


def _slices(files: Iterable[Path], piece_bytes: int) -> Iterator[Slice]:
    for path in files:
        size, form = path.stat().st_size, format_of(path) or "text"
        if size <= piece_bytes or form not in _DIVISIBLE or path.name.lower().endswith(GZIP):
            yield Slice(str(path), form, 0, size)
            continue
        for begin in range(0, size, piece_bytes):
            yield Slice(str(path), form, begin, min(begin + piece_bytes, size), whole=False)
