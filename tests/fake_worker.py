"""A worker process around the fake engine: `python -m fake_worker`, with a `ReplicaCommand` on standard input."""

import sys

import msgspec

from pileus.core.errors import OperatorError
from pileus.core.ports import ReplicaCommand
from pileus.engines.replica.process import die_with_parent, refuse
from pileus.engines.replica.server import serve
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions


def main() -> int:
    die_with_parent()
    command = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaCommand)
    if message := command.spec.get("refuse"):
        return refuse(OperatorError(message))
    if message := command.spec.get("crash"):
        print(message, file=sys.stderr)
        return 3
    engine = FakeEngine(FakeOptions(**command.spec.get("options", {})))
    return serve(
        engine,
        address=command.address,
        replica=command.replica,
        epoch=command.epoch,
        grace_s=command.spec.get("grace_s", 5.0),
    )


if __name__ == "__main__":
    sys.exit(main())
