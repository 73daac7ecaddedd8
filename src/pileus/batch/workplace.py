"""What all batches of a worker process have in common."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from pileus.batch.endpoint import Endpoint
from pileus.config.settings import Batches
from pileus.core.clock import Clock
from pileus.core.records import Principal
from pileus.fleet.directory import Directory
from pileus.store.blobs import Blobs

COMMIT_S: Final = 0.25  # results that come within this are committed together
_GRACE_S: Final = 10.0  # for lines under way, when the batch is to pause


class Workplace(Struct, frozen=True, kw_only=True):
    """What a batch's handler stands on."""

    settings: Batches
    max_line_bytes: int
    endpoints: Mapping[str, Endpoint]  # by path
    blobs: Blobs
    directory: Directory
    principal: Callable[[str], Principal | None]  # by key id; None where unknown; raises where the key is closed
    clock: Clock
    commit_s: float = COMMIT_S
    grace_s: float = _GRACE_S
