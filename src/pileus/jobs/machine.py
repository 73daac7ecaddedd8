"""What may become of a job. Pure: each function takes the job as it is, and gives it as it shall be.

    WAITING ──needs succeeded──▶ QUEUED ──lease──▶ RUNNING ──finish──▶ SUCCEEDED, CANCELLED, EXPIRED
       │                           ▲ ▲                │  └──fail, too often──▶ FAILED (resume: QUEUED)
       └──a need did not──▶ FAILED │ └─────fail───────┤
                                resume        yield with a pause
                                   └──── PAUSED ◀─────┘

Cancelling and expiring are wishes to whoever holds the lease, so that finished work can be kept; a holder that is lost
leaves the wish to the next. Where nobody holds a lease, a kind that `closes` gets one for that, and others end at once.
"""

from msgspec import structs

from pileus.core.errors import CallerError, PileusError
from pileus.store.job_table import Job, JobState, Wish

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 300.0

_NOT_STARTED = (JobState.WAITING, JobState.QUEUED, JobState.PAUSED)
_LAST_WISHES = (Wish.CANCEL, Wish.EXPIRE)
_ENDS = {Wish.NONE: JobState.SUCCEEDED, Wish.PAUSE: JobState.SUCCEEDED} | {
    Wish.CANCEL: JobState.CANCELLED,
    Wish.EXPIRE: JobState.EXPIRED,
}


class LeaseLost(PileusError):
    """Somebody else holds this job now, or nobody."""

    code = "lease_lost"


class NotPossible(CallerError):
    """The job is not in a state in which that can be done."""

    code = "job_state"


def backoff_s(failures: int) -> float:
    """How long to wait after that many failures in a row."""
    return min(FIRST_BACKOFF_S * 2.0 ** (min(failures, 30) - 1), LONGEST_BACKOFF_S)


# --- for who holds the lease ------------------------------------------------------------------------------------------


def leased(job: Job, now: float) -> Job:
    """A worker has it. Raises `NotPossible` unless it is queued."""
    if job.state != JobState.QUEUED:
        raise NotPossible(f"The job {job.id} is {job.state}.")
    return structs.replace(
        job, state=JobState.RUNNING, fence=job.fence + 1, started_at=job.started_at or now, error="", error_code=""
    )


def check(job: Job, fence: int) -> None:
    """Raise `LeaseLost` unless that lease is the present one."""
    if job.state != JobState.RUNNING or job.fence != fence:
        raise LeaseLost


def checkpointed(job: Job, fence: int, body: bytes, stage: str, done: int, total: int) -> Job:
    """It is so far, for good. With another checkpoint than the one before it got further."""
    check(job, fence)
    failures = job.failures if body == job.checkpoint else 0
    return structs.replace(job, checkpoint=body, failures=failures, stage=stage, done=done, total=total)


def finished(job: Job, fence: int, result: bytes, now: float) -> Job:
    """It is done, or was cancelled or expired and has closed."""
    check(job, fence)
    return structs.replace(job, state=_ENDS[job.wish], wish=Wish.NONE, result=result, finished_at=now)


def yielded(job: Job, fence: int) -> Job:
    """Its holder gives it back: to pause, or to be gone on with elsewhere."""
    check(job, fence)
    if job.wish == Wish.PAUSE:
        return structs.replace(job, state=JobState.PAUSED, wish=Wish.NONE)
    return structs.replace(job, state=JobState.QUEUED)


def failed(
    job: Job,
    fence: int,
    code: str,
    error: str,
    now: float,
    retries: int,
    *,
    closes: bool,
    counts: bool = True,
    result: bytes = b"",
) -> Job:
    """It did not get through; after `retries` failures in a row it is not tried again, with 0 not once. Nor is one that
    is to end and has nothing to keep. What `counts` not, nobody knows to be a failure of this job, and it is tried
    again in any case. One that is not tried again leaves `result`."""
    check(job, fence)
    job = structs.replace(job, failures=job.failures + counts, error_code=code, error=error)
    if (counts and job.failures > retries) or (job.wish in _LAST_WISHES and not closes):
        state = JobState.FAILED if job.wish not in _LAST_WISHES else _ENDS[job.wish]
        return structs.replace(job, state=state, wish=Wish.NONE, result=result, finished_at=now)
    job = structs.replace(job, ready_at=now + backoff_s(max(job.failures, 1)))
    return yielded(job, fence)


# --- for everybody else -----------------------------------------------------------------------------------------------


def paused(job: Job) -> Job:
    """It shall go on later. Raises `NotPossible` where it has ended or is about to."""
    if job.state in _NOT_STARTED and job.wish not in _LAST_WISHES:
        return structs.replace(job, state=JobState.PAUSED)
    if job.state == JobState.RUNNING and job.wish not in _LAST_WISHES:
        return structs.replace(job, wish=Wish.PAUSE)
    raise _not_possible(job, "paused")


def resumed(job: Job, *, needs_met: bool) -> Job:
    """A job that was paused, or that failed, goes on from its last checkpoint. Raises `NotPossible` for others."""
    if job.state == JobState.RUNNING and job.wish == Wish.PAUSE:
        return structs.replace(job, wish=Wish.NONE)
    if job.state not in (JobState.PAUSED, JobState.FAILED):
        raise _not_possible(job, "resumed")
    state = JobState.QUEUED if needs_met else JobState.WAITING
    again = structs.replace(job, state=state, failures=0, ready_at=0.0, finished_at=None, result=b"")
    return structs.replace(again, error="", error_code="")


def cancelled(job: Job, now: float, *, closes: bool) -> Job:
    """It shall end, and keep what is finished. Raises `NotPossible` where it has ended."""
    return _ending(job, Wish.CANCEL, now, closes=closes)


def expired(job: Job, now: float, *, closes: bool) -> Job:
    """Its time is over. No-op where it has ended."""
    return job if job.ended else _ending(job, Wish.EXPIRE, now, closes=closes)


def not_begun(job: Job, code: str, error: str, now: float, retries: int) -> Job:
    """No worker of its kind can be started. Only a job that waits for one in order to end is not made to wait for ever:
    this counts as a failure of its. No-op for others."""
    if job.state != JobState.QUEUED or job.wish not in _LAST_WISHES:
        return job
    job = structs.replace(job, failures=job.failures + 1, error_code=code, error=error)
    if job.failures > retries:
        return structs.replace(job, state=_ENDS[job.wish], wish=Wish.NONE, finished_at=now)
    return job


def needs_met(job: Job) -> Job:
    """All that it needs has succeeded. No-op unless it waits for that."""
    return structs.replace(job, state=JobState.QUEUED) if job.state == JobState.WAITING else job


def need_failed(job: Job, need: str, now: float) -> Job:
    """What it needs will not come. No-op unless it waits for that, or is paused before it began."""
    if job.state not in (JobState.WAITING, JobState.PAUSED):
        return job
    error = f"the job {need}, which this one needs, did not succeed"
    return structs.replace(job, state=JobState.FAILED, error_code="need_failed", error=error, finished_at=now)


def _ending(job: Job, wish: Wish, now: float, *, closes: bool) -> Job:
    if job.ended:
        raise _not_possible(job, str(_ENDS[wish]))
    if job.wish in _LAST_WISHES:
        return job  # it is about to end
    if job.state == JobState.RUNNING:
        return structs.replace(job, wish=wish, failures=0)
    if closes:
        return structs.replace(job, state=JobState.QUEUED, wish=wish, failures=0, ready_at=0.0)
    return structs.replace(job, state=_ENDS[wish], finished_at=now)


def _not_possible(job: Job, what: str) -> NotPossible:
    about = f"about to be {_ENDS[job.wish]}" if job.wish in _LAST_WISHES and not job.ended else job.state
    return NotPossible(f"The job {job.id} cannot be {what}: it is {about}.")
