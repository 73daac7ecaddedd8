"""What commands print: lines, tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def line(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def flush() -> None:
    """Show what was printed also where standard output is a pipe."""
    sys.stdout.flush()


def note(text: str) -> None:
    """Something about the work, not its result: goes to standard error."""
    sys.stderr.write(f"{text}\n")


def json(value: Any) -> None:
    sys.stdout.write(dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def json_line(value: Any) -> None:
    """For programs that read line by line."""
    sys.stdout.write(dumps(value, ensure_ascii=False, default=str) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns in the terminal's width; in a pipe, unbroken lines that `awk` can read."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text("-" if cell is None or cell == "" else str(cell)) for cell in row))
    terminal().print(grid)


def fields(values: Mapping[str, object]) -> None:
    """One object: a name and a value on each line; what is empty is left out."""
    width = max(map(len, values))
    for name, value in values.items():
        if value not in (None, ""):
            line(f"{name:{width}}  {value}")


def terminal(*, stderr: bool = False) -> "Console":
    """A rich console that never wraps what is not shown to a person."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


def duration(seconds: float) -> str:
    """`45s`, `12m 03s`, `3h 20m`, `5d 2h`."""
    whole = int(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h}h"
    if hours:
        return f"{h}h {m:02}m"
    return f"{m}m {s:02}s" if minutes else f"{s}s"


def size(count: float) -> str:
    """Bytes as people read them: `98 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
