"""A bar for each stage of a long act; where nobody watches, a line for each stage."""

from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pileus.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

_MOST_COUNTED = 1000  # more of something than this is bytes
_WINDOW_S = 30.0  # of the rate
_TELL_S = 30.0  # between two lines of a stage where nobody watches


class Bars:
    """Called as `bars(stage, done, total)`, from any thread. Draws nothing until the first call, and nothing before
    `patience_s` seconds have passed since then. Amounts are bytes; with `counts`, plain numbers. With `paced` they
    stand beside their rate and the time that is left by it, and where nobody watches, a line tells them now and then;
    a note takes the place of both while there is no pace."""

    def __init__(
        self,
        *,
        counts: bool = False,
        patience_s: float = 0.0,
        paced: bool = False,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._counts = counts
        self._patience_s = patience_s
        self._paced = paced
        self._now = now
        self._called_at: float | None = None
        self._drawing: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}
        self._told: set[str] = set()  # stages that have their line
        self._told_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if self._patience_s and not self._is_long():
            return
        drawing = self._drawing or self._start()
        title = stage[:1].upper() + stage[1:]
        if stage not in self._tasks:
            self._tasks[stage] = drawing.add_task(title, total=None, amount="", pace="")
        amount = _amount(done, total, counts=self._counts)
        pace = self._pace(stage, done, total, note) if self._paced else ""
        if not drawing.console.is_terminal:
            self._tell(title, stage, amount, pace)
        drawing.update(self._tasks[stage], completed=done, total=total or None, amount=amount, pace=pace)

    def finish(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._drawing is not None:
            self._drawing.stop()
        self._drawing = None
        self._tasks = {}
        self._paces = {}

    def _is_long(self) -> bool:
        now = self._now()
        if self._called_at is None:
            self._called_at = now
        return now - self._called_at >= self._patience_s

    def _pace(self, stage: str, done: int, total: int, note: str) -> str:
        if note:
            self._paces.pop(stage, None)  # what was seen before tells nothing of how it will go on
            return note
        pace = self._paces.setdefault(stage, Pace())
        pace.see(done, self._now())
        return pace.told(total)

    def _tell(self, title: str, stage: str, amount: str, pace: str) -> None:
        now = self._now()
        if stage not in self._told:
            output.note(f"{title} ...")
        elif self._paced and now - self._told_at >= _TELL_S:
            output.note(f"{title} ... {', '.join(filter(None, (amount, pace)))}")
        else:
            return
        self._told.add(stage)
        self._told_at = now

    def _start(self) -> "Progress":
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = output.terminal(stderr=True)
        pace: ProgressColumn = TextColumn("{task.fields[pace]}") if self._paced else TimeRemainingColumn(compact=True)
        self._drawing = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            pace,
            console=console,
            disable=not console.is_terminal,
        )
        self._drawing.start()
        return self._drawing


class Pace:
    """How fast a count rises, by its last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, done: int, now: float) -> None:
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()  # it was begun again
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """0 where nothing is known."""
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        return (done - before) / (last - first) if last > first else 0.0

    def told(self, total: int) -> str:
        """`35.1/s, 8m 57s left`; empty where it does not move."""
        rate = self.per_s
        if not rate:
            return ""
        left = f", {output.duration((total - self._seen[-1][1]) / rate)} left" if total else ""
        return f"{rate:,.0f}/s{left}" if rate >= 100 else f"{rate:.2g}/s{left}"


def _amount(done: int, total: int, *, counts: bool) -> str:
    """Replicas are counted, bytes are told in their units."""
    if counts or max(done, total) <= _MOST_COUNTED:
        return f"{done:,}/{total:,}" if total else (f"{done:,}" if counts and done else "")
    return f"{output.size(done)} of {output.size(total)}" if total else output.size(done)
