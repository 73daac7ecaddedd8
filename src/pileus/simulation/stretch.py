"""Engine steps that are alike, run in one go.

As long as nobody comes or goes, each step of an engine has the same plan: the same sequences with as many tokens. Only
the context that they read grows, and with it the length of the step, by as much each time. The first may take longer,
being unlike the step before it.
"""

from math import ceil, sqrt


class Stretch:
    """`steps` steps from `start`; the first takes `first_s`, and each takes `growth_s` longer than the one before.
    `extra_s` comes on top of the first alone."""

    __slots__ = ("extra_s", "first_s", "growth_s", "start", "steps")

    def __init__(self, start: float, steps: int, first_s: float, growth_s: float = 0.0, extra_s: float = 0.0) -> None:
        self.start = start
        self.steps = steps
        self.first_s = first_s
        self.growth_s = growth_s
        self.extra_s = extra_s

    def length(self, steps: int) -> float:
        """Seconds that the first so many of them take."""
        extra_s = self.extra_s if steps else 0.0
        return extra_s + steps * self.first_s + self.growth_s * steps * (steps - 1) / 2

    @property
    def end(self) -> float:
        return self.start + self.length(self.steps)

    def begun_by(self, at: float) -> int:
        """How many have begun before that time, the one in progress included; the first is always one of them."""
        steps = min(self.steps, max(1, ceil(self._steps_in(at - self.start - self.extra_s))))
        while steps > 1 and self.start + self.length(steps - 1) >= at:
            steps -= 1
        while steps < self.steps and self.start + self.length(steps) < at:
            steps += 1
        return steps

    def ended_by(self, at: float) -> int:
        """How many have ended at that time."""
        begun = self.begun_by(at)
        return begun if self.start + self.length(begun) <= at else begun - 1

    def _steps_in(self, seconds: float) -> float:
        """About how many steps that is."""
        if self.growth_s < 1e-12 * self.first_s:
            return seconds / self.first_s
        half = self.first_s - self.growth_s / 2
        return (sqrt(half * half + 2 * self.growth_s * max(0.0, seconds)) - half) / self.growth_s
