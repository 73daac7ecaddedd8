"""A process that trains a small model, for a test that kills it. `python training_run.py FOLDER SPEC [tell]`.

Tells each step on standard output, and waits there for a line before it goes on.
"""

import json
import sys
from pathlib import Path

import msgspec

from pileus.training import ranks
from pileus.training.prepared import prepare
from pileus.training.spec import Train


class Told:
    """A `loop.Watcher`."""

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self._say({"step": step, "loss": figures["loss"]})

    def kept(self, step: int, steps: int) -> None:
        self._say({"kept": step})

    def stops(self) -> bool:
        return False

    def _say(self, told: dict[str, float]) -> None:
        print(json.dumps(told), flush=True)
        if self._waits:
            sys.stdin.readline()


def main() -> None:
    folder, spec = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Train)
    data = prepare(spec, folder, None, lambda _: None)
    work = ranks.Work(spec=spec, folder=str(folder), data=str(data), base=None)
    outcome = ranks.run(work, Told(waits="tell" in sys.argv[3:])).outcome
    print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()
