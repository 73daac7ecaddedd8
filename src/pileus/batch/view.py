"""A batch as people see it: what its job's row comes to."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from pileus.batch.records import (
    BatchCheckpoint,
    BatchResult,
    BatchSpec,
    Counts,
    LineProblem,
    Phase,
    ResultFile,
    TokenSums,
    decode_checkpoint,
    decode_result,
    decode_spec,
)
from pileus.store.job_table import Job, JobState, Wish


class BatchStatus(StrEnum):
    """OpenAI's eight."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


_ENDED: Final = {
    JobState.SUCCEEDED: BatchStatus.COMPLETED,
    JobState.FAILED: BatchStatus.FAILED,
    JobState.CANCELLED: BatchStatus.CANCELLED,
    JobState.EXPIRED: BatchStatus.EXPIRED,
}
_PHASES: Final = {
    Phase.VALIDATING: BatchStatus.VALIDATING,
    Phase.IN_PROGRESS: BatchStatus.IN_PROGRESS,
    Phase.FINALIZING: BatchStatus.FINALIZING,
}


class BatchView(Struct, frozen=True, kw_only=True):
    """A batch at this moment."""

    job: Job
    status: BatchStatus
    spec: BatchSpec
    checkpoint: BatchCheckpoint
    counts: Counts
    usage: TokenSums
    problems: tuple[LineProblem, ...]
    cancelling_at: float | None
    output_file_id: str | None
    error_file_id: str | None

    def ended_at(self, status: BatchStatus) -> float | None:
        """When it came to that end, if it did."""
        return self.job.finished_at if self.status is status else None


def view(job: Job, now: float) -> BatchView:
    """As it is at that time, which stands for when it was cancelled until its worker has put that on record."""
    checkpoint, result = decode_checkpoint(job.checkpoint), decode_result(job.result)
    status = _status(job, checkpoint)
    problems = checkpoint.problems
    if status is BatchStatus.FAILED and not problems:
        problems = (LineProblem(job.error_code or "failed", job.error),)
    cancelling_at = checkpoint.cancelling_at
    if cancelling_at is None and status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        cancelling_at = now if job.finished_at is None else job.finished_at
    return BatchView(
        job=job,
        status=status,
        spec=decode_spec(job.spec),
        checkpoint=checkpoint,
        counts=checkpoint.counts if result is None else result.counts,
        usage=checkpoint.usage if result is None else result.usage,
        problems=problems,
        cancelling_at=cancelling_at,
        output_file_id=None if result is None else _file_id(job, "output", result.output),
        error_file_id=None if result is None else _file_id(job, "errors", result.errors),
    )


def result_files(job: Job, result: BatchResult) -> list[tuple[str, str, ResultFile]]:
    """What a batch leaves, as (file id, name, file)."""
    found = []
    for name, file in (("output", result.output), ("errors", result.errors)):
        file_id = _file_id(job, name, file)
        if file is not None and file_id is not None:
            found.append((file_id, f"{job.id}_{name}.jsonl", file))
    return found


def _status(job: Job, checkpoint: BatchCheckpoint) -> BatchStatus:
    if job.state in _ENDED:
        return _ENDED[job.state]
    return BatchStatus.CANCELLING if job.wish is Wish.CANCEL else _PHASES[checkpoint.phase]


def _file_id(job: Job, name: str, file: ResultFile | None) -> str | None:
    """It follows from the batch's id: whoever ends the batch a second time gives the same."""
    return None if file is None else f"file-{job.id.partition('_')[2]}-{name}"
