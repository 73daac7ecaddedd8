"""A bar for each stage of a long act; where nobody watches, one line for each stage."""

from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pileus.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_MOST_COUNTED = 1000  # more of something than this is bytes


class Bars:
    """Called as `bars(stage, done, total)`, from any thread. Draws nothing until the first call, and nothing before
    `patience_s` seconds have passed since then. Amounts are bytes; with `counts`, plain numbers."""

    def __init__(self, *, counts: bool = False, patience_s: float = 0.0) -> None:
        self._counts = counts
        self._patience_s = patience_s
        self._called_at: float | None = None
        self._drawing: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._patience_s and not self._is_long():
            return
        drawing = self._drawing or self._start()
        if stage not in self._tasks:
            title = stage[:1].upper() + stage[1:]
            self._tasks[stage] = drawing.add_task(title, total=None, amount="")
            if not drawing.console.is_terminal:
                output.note(f"{title} ...")
        drawing.update(self._tasks[stage], completed=done, total=total or None, amount=_amount(done, total))

    def finish(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._drawing is not None:
            self._drawing.stop()
        self._drawing = None
        self._tasks = {}

    def _is_long(self) -> bool:
        now = monotonic()
        if self._called_at is None:
            self._called_at = now
        return now - self._called_at >= self._patience_s

    def _start(self) -> "Progress":
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = output.terminal(stderr=True)
        self._drawing = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._drawing.start()
        return self._drawing


class WorkBar:
    """One bar for work that is counted: how much is done, how fast that goes, and how long the rest will take. Where
    nobody watches, a line for each stage."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._drawing: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._drawing is not None:
            self._drawing.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        drawing = self._drawing or self._start()
        assert self._task is not None
        if stage != self._stage:
            self._stage = stage
            if not drawing.console.is_terminal:
                output.note(f"{stage[:1].upper()}{stage[1:]} ...")
        drawing.update(self._task, description=stage[:1].upper() + stage[1:], completed=done, total=total or None)

    def _start(self) -> "Progress":
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        unit = self._unit

        class Rate(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text(f"{task.speed:.1f} {unit}/s" if task.speed else "")

        console = output.terminal(stderr=True)
        self._drawing = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=60,
        )
        self._task = self._drawing.add_task("", total=None)
        self._drawing.start()
        return self._drawing


def _amount(done: int, total: int) -> str:
    """Replicas are counted, bytes are told in their units."""
    if max(done, total) <= _MOST_COUNTED:
        return f"{done}/{total}" if total else ""
    return f"{output.size(done)} of {output.size(total)}" if total else output.size(done)
