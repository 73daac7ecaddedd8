"""What a chapter of the demonstration tells: figures, some of which have a goal, and plots."""

from pathlib import Path
from typing import Any

from msgspec import Struct

from pileus.demo.cloud import Cloud
from pileus.demo.scale import Scale


class Figure(Struct, frozen=True):
    """One measured thing."""

    name: str
    shown: str
    goal: str = ""  # in words; empty where there is none
    holds: bool = True


class Chapter(Struct, frozen=True, kw_only=True):
    """A part of the report."""

    title: str
    says: str
    figures: tuple[Figure, ...]
    plots: tuple[str, ...] = ()  # file names in the report's folder
    samples: tuple[str, ...] = ()  # texts, as they are
    seconds: float = 0.0


class Stage(Struct, frozen=True):
    """What every chapter works with."""

    cloud: Cloud
    folder: Path  # of the report
    scale: Scale

    def file(self, name: str) -> Path:
        """One of the texts that are made."""
        folder = self.folder / "texts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def figure(
        self,
        name: str,
        value: float,
        shown: str,
        goal: str = "",
        *,
        least: float | None = None,
        most: float | None = None,
    ) -> Figure:
        """With its goal, where runs of this scale have goals at all."""
        if not goal or not self.scale.has_goals:
            return Figure(name, shown)
        holds = (least is None or value >= least) and (most is None or value <= most)
        return Figure(name, shown, goal, holds)

    def run(self, kind: str, title: str, **spec: Any) -> Any:
        """A job of that kind."""
        return self.cloud.job(kind, spec, title)


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
