"""The replica: one process with one engine. The fleet starts it, by `pileus worker`."""

import sys
from pathlib import Path

import msgspec

from pileus.bootstrap import load_driver
from pileus.core.errors import OperatorError
from pileus.core.ports import EngineSpec, ReplicaCommand

DRAIN_S = 20.0  # for what runs, where the specification does not say


def run_worker() -> None:
    """One replica: reads its `ReplicaCommand` from standard input, serves until it is told to end, and exits."""
    from pileus.engines.replica.process import die_with_parent, refuse
    from pileus.engines.replica.server import serve
    from pileus.models.artefact import verify
    from pileus.models.low_rank import PeftReader
    from pileus.models.signature import SignedReader, demand_signature
    from pileus.observability import events

    die_with_parent()
    command = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaCommand)
    spec = command.spec
    trusted: list[str] | None = spec.get("trusted_keys")  # None: what is not signed is taken too
    events.configure(spec["log_level"], "json")
    try:
        driver = load_driver(spec["engine"])
        path = Path(spec["model_path"]) if spec["model_path"] else None
        if driver.needs_model and path is not None:
            verify(path)
            if trusted is not None:
                demand_signature(path, trusted)
        options = driver.options.model_validate(spec["options"])
        reader = PeftReader() if trusted is None else SignedReader(PeftReader(), trusted)
        engine = driver.open(EngineSpec(spec["model"], path, options, spec["context_length"], reader))
    except OperatorError as error:
        sys.exit(refuse(error))
    grace_s = spec.get("grace_s", DRAIN_S)
    sys.exit(serve(engine, address=command.address, replica=command.replica, epoch=command.epoch, grace_s=grace_s))
