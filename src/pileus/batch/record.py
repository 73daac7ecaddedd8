"""A batch's checkpoint as one lease has it, and puts it on record."""

from typing import Any

from msgspec.json import encode
from msgspec.structs import replace

from pileus.batch.records import BatchCheckpoint, decode_checkpoint
from pileus.jobs.handler import Context


class Record:
    """For one lease."""

    def __init__(self, context: Context) -> None:
        self.state: BatchCheckpoint = decode_checkpoint(context.job.checkpoint)
        self._context = context

    def note(self, **changes: Any) -> None:
        """Have the next `save` put these fields of the checkpoint on record too."""
        self.state = replace(self.state, **changes)

    async def save(self, **changes: Any) -> None:
        """Durable when this returns. Raises `LeaseLost`."""
        self.note(**changes)
        counts = self.state.counts
        done = counts.completed + counts.failed
        await self._context.checkpoint(encode(self.state), self.state.phase, done, counts.total)
