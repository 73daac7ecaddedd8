"""One run: what it has measured so far, saved after every figure, and what is said to the person who waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.figures import Figures
from benchmarks.results import Measurement, Missing, Results, Target

Step = Callable[[str], None]


class Run:
    """Hands figures to the record and progress to the terminal."""

    def __init__(self, results: Results, folder: Path, rounds: int) -> None:
        self.results = results
        self.folder = folder
        self.rounds = rounds
        self._console = Console(highlight=False, soft_wrap=True)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def file(self) -> Path:
        return self.folder / "results.json"

    def say(self, text: str) -> None:
        self._console.print(f"[dim]{text}[/dim]")

    def take_part(self, target: Target) -> None:
        self.results.targets.append(target)

    def keep(self, suite: str, workload: str, target: str, number: int, figures: Figures) -> None:
        self.results.measurements.append(Measurement(suite, workload, target, number, figures))
        self.results.save(self.file)
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())
        self._console.print(f"{workload:<17}{target:<16}round {number}  {shown}")

    def miss(self, target: str, workload: str, why: str) -> None:
        self.results.missing.append(Missing(target, workload, why[:500]))
        self.results.save(self.file)
        self._console.print(f"[yellow]{target} gives no figure for {workload}: {why[:300]}[/yellow]", markup=True)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Step]:
        """A bar; each call of what it yields begins the next of `total` steps."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(title, total=total)
            begun = 0

            def step(text: str) -> None:
                nonlocal begun
                bar.update(task, description=text, completed=begun)
                begun += 1

            yield step
