"""What sets two versions apart: files by their hashes, size, licence, figures, parents."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from pileus.models.artefact import FileDigest
from pileus.models.card import read_card
from pileus.store.version_table import Edge, Version


class Side(Struct, frozen=True):
    """One of the two, with what is known of it. `files` is None where it is not installed here."""

    version: Version
    files: Mapping[str, FileDigest] | None
    parents: tuple[Edge, ...]


class FileChange(Struct, frozen=True):
    """A file that is not the same in both; what one lacks is None there."""

    name: str
    before: FileDigest | None
    after: FileDigest | None


class FigureChange(Struct, frozen=True):
    name: str
    before: float | None
    after: float | None


class Difference(Struct, frozen=True, kw_only=True):
    """From `before` to `after`."""

    before: str  # model@number
    after: str
    same: bool  # byte for byte; false also where one is not installed and their manifests differ
    size_bytes: tuple[int, int]
    licence: tuple[str, str]
    files: list[FileChange] | None  # None where one of them is not installed here
    files_same: list[str]
    figures: list[FigureChange]
    parents_before: list[str]  # which the other one has not
    parents_after: list[str]


def difference(before: Side, after: Side) -> Difference:
    files = _files(before.files, after.files)
    parents = [_parents(side) for side in (before, after)]
    shared = (before.files or {}).items() & (after.files or {}).items()
    return Difference(
        before=_name(before.version),
        after=_name(after.version),
        same=before.version.sha256 == after.version.sha256 or files == [],
        size_bytes=(before.version.size_bytes, after.version.size_bytes),
        licence=(before.version.licence, after.version.licence),
        files=files,
        files_same=sorted(name for name, _ in shared),
        figures=_figures(before.version, after.version),
        parents_before=sorted(parents[0] - parents[1]),
        parents_after=sorted(parents[1] - parents[0]),
    )


def _parents(side: Side) -> set[str]:
    return {f"{edge.relation} {edge.parent_kind} {edge.parent}" for edge in side.parents}


def _name(version: Version) -> str:
    return f"{version.model}@{version.number}"


def _files(before: Mapping[str, FileDigest] | None, after: Mapping[str, FileDigest] | None) -> list[FileChange] | None:
    if before is None or after is None:
        return None
    names = sorted(before.keys() | after.keys())
    return [
        FileChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    ]


def _figures(before: Version, after: Version) -> list[FigureChange]:
    first, second = read_card(before.card).figures, read_card(after.card).figures
    names: Iterable[str] = sorted(first.keys() | second.keys())
    return [FigureChange(name, first.get(name), second.get(name)) for name in names]
