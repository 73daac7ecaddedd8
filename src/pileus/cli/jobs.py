"""`pileus jobs`: work that goes on behind the requests, how far it is, and what it told."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url, Yes
from pileus.cli.watch import ENDED, JOBS_PATH, LOOK_S, WISHES, demand_success, stage_of, watch_job

app = typer.Typer(help="List, follow, pause and cancel jobs, such as batches.", no_args_is_help=True)

_MOST_LINES = 1000  # in one answer

State = Literal["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled", "expired"]
JobId = Annotated[str, typer.Argument(help="The job's id, as `pileus jobs list` shows it.", metavar="ID")]


@app.command("list")
def list_jobs(
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind, such as `batch`.")] = None,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """List the jobs, latest first.

    Example: `pileus jobs list --state running`
    """
    wanted = {name: value for name, value in (("kind", kind), ("state", state), ("limit", limit)) if value is not None}
    with Client(url) as client:
        found = client.get(f"{JOBS_PATH}?{urlencode(wanted)}")
    if json:
        output.json(found["data"])
        return
    now = time.time()
    output.table(
        ("ID", "KIND", "STATE", "PROGRESS", "TENANT", "AGE", "ERROR"),
        (
            (
                job["id"],
                job["kind"],
                _state(job),
                _progress(job),
                job["tenant"],
                output.duration(max(0.0, now - job["created_at"])),
                job["error"]["message"] if job["error"] else "",
            )
            for job in found["data"]
        ),
    )
    if found["has_more"]:
        output.note(f"These are the latest {limit}; there are more.")


@app.command("show")
def show(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it with a live bar until it ends.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Show a job. With --watch, follow it; Ctrl-C ends the watching, and the job goes on.

    Examples: `pileus jobs show job_0123`, `pileus jobs show job_0123 --watch`
    """
    with Client(url) as client:
        job = watch_job(client, job_id) if watch else client.get(f"{JOBS_PATH}/{job_id}")
    if json:
        output.json(job)
    else:
        output.fields(_fields(job))
    if watch:
        demand_success(job)


@app.command("logs")
def logs(
    job_id: JobId,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=_MOST_LINES, help="How many of the last.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print what comes until the job ends.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Print what a job told; each job keeps its last 1000 lines. With --json, one object a line.

    Example: `pileus jobs logs job_0123 --follow`
    """
    path = f"{JOBS_PATH}/{job_id}"
    with Client(url) as client:
        last = _print(client.get(f"{path}/logs?limit={lines}")["data"], 0, json=json)
        ended = not follow
        while not ended:
            ended = client.get(path)["state"] in ENDED
            if not ended:
                time.sleep(LOOK_S)
            while found := client.get(f"{path}/logs?after={last}&limit={_MOST_LINES}")["data"]:
                last = _print(found, last, json=json)


@app.command("pause")
def pause(job_id: JobId, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Let a job rest; one that runs does so at its next checkpoint.

    Example: `pileus jobs pause job_0123`
    """
    _ask("pause", job_id, url, json=json)


@app.command("resume")
def resume(job_id: JobId, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Go on with a job that was paused, or that failed, from its last checkpoint.

    Example: `pileus jobs resume job_0123`
    """
    _ask("resume", job_id, url, json=json)


@app.command("cancel")
def cancel(job_id: JobId, yes: Yes = False, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """End a job; what it has finished is kept.

    Example: `pileus jobs cancel job_0123 --yes`
    """
    if not yes:
        typer.confirm(f"Cancel {job_id}?", abort=True, err=True)
    _ask("cancel", job_id, url, json=json)


def _ask(act: str, job_id: str, url: str, *, json: bool) -> None:
    with Client(url) as client:
        job = client.post(f"{JOBS_PATH}/{job_id}/{act}", {})
    if json:
        output.json(job)
    else:
        output.line(f"{job_id} is {_state(job)}.")


def _print(lines: list[dict[str, Any]], last: int, *, json: bool) -> int:
    """Print them; the sequence of the last, which without any is what it was."""
    for line in lines:
        if json:
            output.json_line(line)
        else:
            level = "" if line["level"] == "info" else f"{line['level']}: "
            output.line(f"{_time(line['at'])}  {level}{line['text']}")
        last = line["sequence"]
    output.flush()
    return last


def _fields(job: dict[str, Any]) -> dict[str, object]:
    waits = job["state"] == "queued" and job["ready_at"] > time.time()
    return {
        "id": job["id"],
        "kind": job["kind"],
        "tenant": job["tenant"],
        "state": _state(job),
        "stage": stage_of(job),
        "progress": _progress(job),
        "priority": job["priority"],
        "needs": ", ".join(job["needs"]),
        "error": f"{job['error']['message']} ({job['error']['code']})" if job["error"] else "",
        "failures": f"{job['failures']} since it last got further" if job["failures"] else "",
        "next try": _time(job["ready_at"]) if waits else "",
        "submitted": _time(job["created_at"]),
        "started": _time(job["started_at"]),
        "ended": _time(job["finished_at"]),
        "expires": "" if job["state"] in ENDED else _time(job["due_at"]),
    }


def _state(job: dict[str, Any]) -> str:
    return f"{job['state']}, {WISHES[job['wish']]}" if job["wish"] else str(job["state"])


def _progress(job: dict[str, Any]) -> str:
    """`1,200/20,000 (6%)`"""
    if not job["total"]:
        return f"{job['done']:,}" if job["done"] else ""
    return f"{job['done']:,}/{job['total']:,} ({int(100 * job['fraction'])}%)"


def _time(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else ""
