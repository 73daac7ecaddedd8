"""Lines of a job's log that tell of a step, to be read again as events."""

import re
from typing import Final

_STEP: Final = re.compile(r"Step (\d+)/(\d+): ")


def step_line(step: int, steps: int, values: dict[str, float]) -> str:
    """For people."""
    told = ", ".join(f"{name.replace('_', ' ')}={value:.4f}" for name, value in values.items())
    return f"Step {step}/{steps}: {told}"


def step_of_line(text: str) -> int | None:
    """None for any other line."""
    found = _STEP.match(text)
    return int(found[1]) if found else None
