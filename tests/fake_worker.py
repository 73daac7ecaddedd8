"""A worker process around the fake engine: `python -m fake_worker`, with a `ReplicaCommand` on standard input.

Of its specification, `options` are the engine's, and `options_of[replica]` besides for that replica alone.
`memory_bytes` is what the process may map beyond what it has when it begins, and a prompt with the token `greedy_token`
makes the engine want more than that.
"""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pileus.core.errors import OperatorError
from pileus.core.ports import ReplicaCommand
from pileus.core.records import EngineRequest, StepOutput
from pileus.engines.replica.process import die_with_parent, refuse
from pileus.engines.replica.server import serve
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions


class GreedyEngine(FakeEngine):
    """Out of memory is where a certain prompt leads."""

    def __init__(self, options: FakeOptions, greedy_token: int) -> None:
        super().__init__(options)
        self._greedy_token = greedy_token
        self._greedy = False

    def submit(self, request: EngineRequest) -> None:
        self._greedy |= self._greedy_token in request.prompt
        super().submit(request)

    def events(self) -> Iterator[StepOutput]:
        hoard = []
        for output in super().events():
            yield output
            while self._greedy:
                hoard.append(bytearray(16 << 20))


def limit_memory(more_bytes: int) -> None:
    """An allocation that goes beyond fails with `MemoryError`; no other process is in danger."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def engine_of(spec: dict[str, Any], replica: str) -> FakeEngine:
    options = FakeOptions(**spec.get("options", {}) | spec.get("options_of", {}).get(replica, {}))
    if "memory_bytes" not in spec:
        return FakeEngine(options)
    limit_memory(spec["memory_bytes"])
    return GreedyEngine(options, spec["greedy_token"])


def main() -> int:
    die_with_parent()
    command = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaCommand)
    if message := command.spec.get("refuse"):
        return refuse(OperatorError(message))
    if message := command.spec.get("crash"):
        print(message, file=sys.stderr)
        return 3
    return serve(
        engine_of(dict(command.spec), command.replica),
        address=command.address,
        replica=command.replica,
        epoch=command.epoch,
        grace_s=command.spec.get("grace_s", 5.0),
    )


if __name__ == "__main__":
    sys.exit(main())
