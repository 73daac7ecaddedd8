"""The report: for people as a page, for programs as JSON."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from pileus import __version__
from pileus.demo.chapter import Chapter, Figure

PAGE: Final = "report.md"
RECORD: Final = "report.json"


class Report(Struct, frozen=True, kw_only=True):
    """`report.json`."""

    at: str
    version: str
    machine: str
    seconds: float
    chapters: tuple[Chapter, ...]

    @property
    def missed(self) -> list[Figure]:
        """Those that have a goal, and did not reach it."""
        return [figure for chapter in self.chapters for figure in chapter.figures if not figure.holds]


def make_report(chapters: Sequence[Chapter], seconds: float) -> Report:
    return Report(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        machine=f"{platform.machine()}, {cpu_count()} cores",
        seconds=seconds,
        chapters=tuple(chapters),
    )


def save(report: Report, folder: Path) -> Path:
    """Write both; the page's path."""
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    page = folder / PAGE
    page.write_text(_page(report), encoding="utf-8")
    return page


def _page(report: Report) -> str:
    lines = [
        "# A model's life",
        "",
        f"{report.at}, Pileus {report.version}, {report.machine}: {report.seconds / 60:.1f} minutes in all.",
    ]
    if report.missed:
        lines += ["", f"**Goals that were missed: {', '.join(figure.name for figure in report.missed)}.**"]
    for number, chapter in enumerate(report.chapters, 1):
        lines += ["", f"## {number}. {chapter.title}", "", f"{chapter.says} ({chapter.seconds:.0f} s)", ""]
        lines += ["| | measured | goal |", "| --- | --- | --- |"]
        lines += [f"| {each.name} | {_cell(each.shown)} | {_goal(each)} |" for each in chapter.figures]
        for sample in chapter.samples:
            lines += ["", *(f"> {line}" for line in sample.splitlines())]
        for plot in chapter.plots:
            lines += ["", f"![{chapter.title}]({plot})"]
    return "\n".join(lines) + "\n"


def _goal(figure: Figure) -> str:
    if not figure.goal:
        return ""
    return f"{figure.goal}: {'yes' if figure.holds else '**no**'}"


def _cell(text: str) -> str:
    """A table's cell has no lines and no bars."""
    return text.replace("\n", " ").replace("|", "\\|")
