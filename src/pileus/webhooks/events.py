"""What people can be told of."""

from typing import Final, Literal

from msgspec import Struct

from pileus.store.job_table import Job, JobState

# What an end of a job of this kind is called.
_ENDS: Final[dict[tuple[str, JobState], str]] = {
    ("batch", JobState.SUCCEEDED): "batch.completed",
    ("batch", JobState.FAILED): "batch.failed",
    ("batch", JobState.EXPIRED): "batch.expired",
    ("batch", JobState.CANCELLED): "batch.cancelled",
    ("fine_tune", JobState.SUCCEEDED): "fine_tuning.job.succeeded",
    ("fine_tune", JobState.FAILED): "fine_tuning.job.failed",
    ("fine_tune", JobState.CANCELLED): "fine_tuning.job.cancelled",
    ("background", JobState.SUCCEEDED): "background.completed",
    ("background", JobState.FAILED): "background.failed",
    ("background", JobState.EXPIRED): "background.failed",
    ("background", JobState.CANCELLED): "background.cancelled",
}
EVENT_TYPES: Final = tuple(dict.fromkeys(_ENDS.values()))
TEST: Final = "webhook.test"  # is sent on demand only


class Subject(Struct, frozen=True):
    """What it happened to."""

    id: str


class Event(Struct, frozen=True, kw_only=True):
    """What is sent, as OpenAI has it. Whoever wants more asks for the subject, with a key."""

    id: str
    object: Literal["event"] = "event"
    created_at: int  # Unix time
    type: str
    data: Subject


def type_of(job: Job) -> str | None:
    """What the end of that job is called; None where nobody is told."""
    return _ENDS.get((job.kind, job.state))
