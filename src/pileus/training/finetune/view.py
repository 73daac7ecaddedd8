"""A fine-tuning as people see it: what its job's row, its log and its figures come to."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from pileus.jobs.metrics import MetricPoint
from pileus.store.job_table import Job, JobLine, JobState
from pileus.training.finetune.records import (
    BAD_TRAINING_FILE,
    BAD_VALIDATION_FILE,
    FineTuneCheckpoint,
    FineTuneResult,
    FineTuneSpec,
    Kept,
    decode_checkpoint,
    decode_result,
    decode_spec,
)
from pileus.training.finetune.told import step_of_line


class FineTuneStatus(StrEnum):
    """OpenAI's, with `paused`."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATES: Final = {
    JobState.PAUSED: FineTuneStatus.PAUSED,
    JobState.SUCCEEDED: FineTuneStatus.SUCCEEDED,
    JobState.FAILED: FineTuneStatus.FAILED,
    JobState.CANCELLED: FineTuneStatus.CANCELLED,
    JobState.EXPIRED: FineTuneStatus.CANCELLED,
}
_PARAMS: Final = {BAD_TRAINING_FILE: "training_file", BAD_VALIDATION_FILE: "validation_file", "invalid_model": "model"}
_LEVELS: Final = {"warning": "warn"}


class FineTuneError(Struct, frozen=True):
    """Why it failed."""

    code: str
    message: str
    param: str | None


class FineTuneView(Struct, frozen=True, kw_only=True):
    """A fine-tuning at this moment."""

    job: Job
    status: FineTuneStatus
    spec: FineTuneSpec
    record: FineTuneCheckpoint
    result: FineTuneResult | None
    error: FineTuneError | None
    estimated_finish: float | None  # wall clock

    @property
    def fine_tuned_model(self) -> str | None:
        """Null for one that the gate refused."""
        is_made = self.result is not None and bool(self.result.made)
        return self.spec.output if is_made and self.status is not FineTuneStatus.FAILED else None

    @property
    def trained_tokens(self) -> int | None:
        return None if self.result is None else self.result.trained_tokens

    @property
    def kept(self) -> tuple[Kept, ...]:
        return self.record.kept if self.result is None else self.result.kept


class FineTuneEvent(Struct, frozen=True, kw_only=True):
    """Something that it told."""

    id: str
    at: float
    level: str
    message: str
    values: dict[str, float] | None = None  # of a step's


def view(job: Job, now: float) -> FineTuneView:
    """As it is at that time."""
    record, result = decode_checkpoint(job.checkpoint), decode_result(job.result)
    status = _status(job, record)
    left_s = record.step_s * max(job.total - job.done, 0)
    failed = status is FineTuneStatus.FAILED
    return FineTuneView(
        job=job,
        status=status,
        spec=decode_spec(job.spec),
        record=record,
        result=result,
        error=FineTuneError(job.error_code or "failed", job.error, _PARAMS.get(job.error_code)) if failed else None,
        estimated_finish=now + left_s if status is FineTuneStatus.RUNNING and record.step_s and job.total else None,
    )


def events(job_id: str, lines: Sequence[JobLine], points: Sequence[MetricPoint]) -> Iterator[FineTuneEvent]:
    """The latest first; a line that tells of a step has that step's figures."""
    values = {point.step: point.values for point in points}
    for line in reversed(lines):
        step = step_of_line(line.text)
        yield FineTuneEvent(
            id=event_id(job_id, line.sequence),
            at=line.at,
            level=_LEVELS.get(line.level, line.level),
            message=line.text,
            values=None if step is None else {"step": float(step), **values.get(step, {})},
        )


def event_id(job_id: str, sequence: int) -> str:
    return f"ftevent-{job_id.partition('-')[2]}-{sequence}"


def checkpoint_id(job_id: str, step: int) -> str:
    return f"ftckpt_{job_id.partition('-')[2]}-{step}"


def _status(job: Job, record: FineTuneCheckpoint) -> FineTuneStatus:
    if job.state in _STATES:
        return _STATES[job.state]
    if record.checked is None:
        return FineTuneStatus.VALIDATING_FILES
    runs = job.state is JobState.RUNNING and record.running_at is not None
    return FineTuneStatus.RUNNING if runs else FineTuneStatus.QUEUED
