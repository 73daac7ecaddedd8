"""Watches a job of a running server with a live bar. Whoever watches can leave at any time: the job goes on."""

import time
from contextlib import suppress
from typing import Any

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.progress import Bars
from pileus.core.errors import OperatorError

JOBS_PATH = "/v1/jobs"
ENDED = ("succeeded", "failed", "cancelled", "expired")
LOOK_S = 0.5  # between two looks at a job
WISHES = {"pause": "pausing", "cancel": "cancelling", "expire": "expiring"}
_ENDINGS = {"failed": "failed", "cancelled": "been cancelled", "expired": "expired"}


def begin_job(client: Client, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Submit it. Where the very same was begun before and has not ended, that job goes on in its place."""
    job: dict[str, Any] = client.post(JOBS_PATH, {"kind": kind, "spec": spec, "once": True})
    if job["state"] == "paused" or job["wish"] == "pause":
        job = client.post(f"{JOBS_PATH}/{job['id']}/resume", {})
    if job["started_at"]:
        output.note(f"{job['id']} goes on.")
    return job


def watch_job(client: Client, job_id: str, title: str = "", *, pauses: bool = False) -> dict[str, Any]:
    """Draw a bar (amount, rate, time left) until the job has ended, however it does; the job as it is then.

    `title` stands before the bar where the job has no stage to tell of. Ctrl-C raises `KeyboardInterrupt` and ends the
    watching, not the job: a line says what becomes of it. With `pauses`, it rests until the command is given again.
    Raises `OperatorError` where there is no such job, or no server any more.
    """
    try:
        with Bars(counts=True, paced=True) as bars:
            while (job := client.get(f"{JOBS_PATH}/{job_id}"))["state"] not in ENDED:
                bars(stage_of(job) or title or job["kind"], job["done"], job["total"], _rest(client, job))
                time.sleep(LOOK_S)
            if job["stage"]:
                bars(stage_of(job), job["done"], job["total"], job["state"])
    except KeyboardInterrupt:
        output.note(_left(client, job_id, pauses=pauses))
        raise
    return dict(job)


def lines_of(client: Client, job_id: str) -> list[str]:
    """The last that it told."""
    return [line["text"] for line in client.get(f"{JOBS_PATH}/{job_id}/logs?limit=100")["data"]]


def wait_for_rest(client: Client, job_id: str) -> None:
    """Until a job that was asked to pause runs no more."""
    while client.get(f"{JOBS_PATH}/{job_id}")["state"] == "running":
        time.sleep(LOOK_S)


def demand_success(job: dict[str, Any]) -> None:
    """Raise `OperatorError` with the reason unless a job that has ended did what it should."""
    if job["state"] != "succeeded":
        reason = f": {job['error']['message']}" if job["error"] else ""
        raise OperatorError(f"the job {job['id']} has {_ENDINGS[job['state']]}{reason}")


def _left(client: Client, job_id: str, *, pauses: bool) -> str:
    if pauses:
        with suppress(OperatorError):  # it may have ended just now
            client.post(f"{JOBS_PATH}/{job_id}/pause", {})
        return f"{job_id} is paused; the same command goes on with it."
    if client.lasts:
        return f"The job goes on; `pileus jobs show {job_id} --watch` follows it again."
    return f"{job_id} rests; the same command goes on with it, and so does the next server of this data folder."


def stage_of(job: dict[str, Any]) -> str:
    """In words."""
    return str(job["stage"]).replace("_", " ")


def _rest(client: Client, job: dict[str, Any]) -> str:
    """Why it does not go on, or not for long; empty where it runs."""
    if job["wish"]:
        return WISHES[job["wish"]]
    if job["state"] == "running":
        return ""
    if job["state"] == "queued" and job["error"]:
        return f"failed, is tried again: {job['error']['message']}"
    if job["state"] == "queued":
        running = client.get(f"{JOBS_PATH}?kind={job['kind']}&state=running&limit=1")["data"]
        return f"queued, while {running[0]['id']} runs" if running else "queued"
    return str(job["state"])
