"""`pileus jobs` against a scripted server."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pileus.cli import jobs, watch
from pileus.cli.client import Client
from unit.cli.conftest import Pileus, Stub

PATH = "/v1/jobs/job_1"
JOB: dict[str, Any] = {
    "id": "job_1",
    "kind": "batch",
    "tenant": "acme",
    "state": "running",
    "wish": "",
    "acts": ["pause", "cancel"],
    "priority": 0,
    "needs": [],
    "stage": "lines",
    "done": 1999,
    "total": 20_000,
    "fraction": 0.09995,
    "failures": 0,
    "error": None,
    "created_at": 1_700_000_000.0,
    "started_at": 1_700_000_001.0,
    "finished_at": None,
    "due_at": None,
    "ready_at": 0.0,
    "sequence": 7,
}
DONE = JOB | {"state": "succeeded", "done": 20_000, "fraction": 1.0, "finished_at": 1_700_000_900.0}
ERROR = {"code": "no_file", "message": "the file is gone"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.001)
    monkeypatch.setattr(jobs, "LOOK_S", 0.001)


def test_jobs_are_listed_with_how_far_they_are(pileus: Pileus, stub: Stub) -> None:
    created = {"created_at": time.time() - 200}
    asked, unknown = JOB | {"id": "job_2", "wish": "cancel"}, JOB | {"id": "job_3", "done": 0, "total": 0}
    data = [JOB | created, asked | created, unknown | created | {"error": ERROR}]
    stub.answer("GET", "/v1/jobs?limit=50", {"data": data, "has_more": False})
    ran = pileus("jobs", "list")
    rows = [row.split() for row in ran.out.splitlines()]
    assert rows[2] == ["job_1", "batch", "running", "1,999/20,000", "(9%)", "acme", "3m", rows[2][7], "-"]
    assert rows[3][2:4] == ["running,", "cancelling"]
    assert rows[4][3] == "-"
    assert ran.out.splitlines()[4].endswith("the file is gone")
    assert pileus("jobs", "list", "--json").json() == data


def test_a_list_is_picked_and_tells_that_there_are_more(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", "/v1/jobs?kind=batch&state=failed&limit=1", {"data": [JOB], "has_more": True})
    ran = pileus("jobs", "list", "--kind", "batch", "--state", "failed", "--limit", "1")
    assert ran.err == "These are the latest 1; there are more.\n"
    assert pileus("jobs", "list", "--state", "lazy").status == 2


def test_a_job_is_shown_field_by_field(pileus: Pileus, stub: Stub) -> None:
    later = time.time() + 60
    stub.answer(
        "GET", PATH, JOB | {"state": "queued", "failures": 2, "error": ERROR, "ready_at": later, "needs": ["a"]}
    )
    fields = dict(line.split("  ", 1) for line in pileus("jobs", "show", "job_1").out.splitlines())
    told = {name: value.strip() for name, value in fields.items()}
    assert told["progress"] == "1,999/20,000 (9%)"
    assert told["error"] == "the file is gone (no_file)"
    assert told["failures"] == "2 since it last got further"
    assert told["submitted"] == "2023-11-14 22:13:20 UTC"
    assert told["needs"] == "a"
    assert "next try" in told
    assert "ended" not in told
    assert pileus("jobs", "show", "job_1", "--json").json()["error"] == ERROR


def test_watching_lasts_until_the_job_ends(pileus: Pileus, stub: Stub) -> None:
    queued = JOB | {"state": "queued", "stage": "", "done": 0, "total": 0}
    stub.answer("GET", "/v1/jobs?kind=batch&state=running&limit=1", {"data": []})
    final = DONE | {"stage": "making_files"}
    stub.answer_in_turn("GET", PATH, queued, JOB, JOB | {"wish": "pause"}, JOB | {"state": "paused"}, JOB, final)
    ran = pileus("jobs", "show", "job_1", "--watch")
    assert (ran.status, len(stub.keys)) == (0, 7)  # six looks, and one for whom it waits
    assert ran.err.splitlines() == ["Batch ...", "Lines ...", "Making files ..."]
    assert "state      succeeded" in ran.out


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ({"state": "failed", "error": ERROR}, "has failed: the file is gone"),
        ({"state": "cancelled"}, "has been cancelled"),
        ({"state": "expired"}, "has expired"),
    ],
)
def test_watching_a_job_that_does_not_succeed_ends_with_1(
    pileus: Pileus, stub: Stub, end: dict[str, Any], told: str
) -> None:
    stub.answer_in_turn("GET", PATH, JOB, JOB | end)
    ran = pileus("jobs", "show", "job_1", "--watch", "--json")
    assert (ran.status, ran.json()["state"]) == (1, end["state"])
    assert ran.err.splitlines()[-1] == f"pileus: the job job_1 {told}"


def test_ctrl_c_ends_the_watching_only(pileus: Pileus, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    stub.answer("GET", PATH, JOB)
    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=interrupt))
    ran = pileus("jobs", "show", "job_1", "--watch")
    assert (ran.status, ran.out) == (130, "")
    assert "The job goes on; `pileus jobs show job_1 --watch` follows it again." in ran.err
    assert stub.bodies == []


@pytest.mark.parametrize(
    ("change", "rest"),
    [
        ({}, ""),
        ({"wish": "cancel"}, "cancelling"),
        ({"state": "paused"}, "paused"),
        ({"state": "queued", "error": ERROR}, "failed, is tried again: the file is gone"),
    ],
)
def test_the_bar_says_why_a_job_does_not_go_on(stub: Stub, change: dict[str, Any], rest: str) -> None:
    with Client(stub.url) as client:
        assert watch._rest(client, JOB | change) == rest


def line(sequence: int, text: str, level: str = "info") -> dict[str, Any]:
    return {"sequence": sequence, "at": 1_700_000_000.0 + sequence, "level": level, "text": text}


def test_the_last_lines_are_printed_with_their_time(pileus: Pileus, stub: Stub) -> None:
    data = [line(1, "began"), line(2, "no file", "error")]
    stub.answer("GET", f"{PATH}/logs?limit=100", {"data": data})
    ran = pileus("jobs", "logs", "job_1")
    assert ran.out == "2023-11-14 22:13:21 UTC  began\n2023-11-14 22:13:22 UTC  error: no file\n"
    stub.answer("GET", f"{PATH}/logs?limit=1", {"data": data[1:]})
    assert pileus("jobs", "logs", "job_1", "-n", "1", "--json").json() == data[1]


def test_following_prints_each_line_once_and_what_came_with_the_end(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", f"{PATH}/logs?limit=100", {"data": [line(1, "a")]})
    stub.answer_in_turn("GET", PATH, JOB, JOB, DONE)
    stub.answer_in_turn("GET", f"{PATH}/logs?after=1&limit=1000", {"data": []}, {"data": [line(2, "b"), line(3, "c")]})
    stub.answer_in_turn("GET", f"{PATH}/logs?after=3&limit=1000", {"data": []}, {"data": [line(4, "the end")]})
    stub.answer("GET", f"{PATH}/logs?after=4&limit=1000", {"data": []})
    ran = pileus("jobs", "logs", "job_1", "--follow")
    assert (ran.status, [each.split()[-1] for each in ran.out.splitlines()]) == (0, ["a", "b", "c", "end"])


def test_a_job_is_paused_and_resumed(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", f"{PATH}/pause", JOB | {"wish": "pause"})
    stub.answer("POST", f"{PATH}/resume", JOB | {"state": "queued"})
    assert pileus("jobs", "pause", "job_1").out == "job_1 is running, pausing.\n"
    assert pileus("jobs", "resume", "job_1").out == "job_1 is queued.\n"
    assert pileus("jobs", "resume", "job_1", "--json").json()["state"] == "queued"


@pytest.mark.parametrize(("answer", "status"), [("n\n", 1), ("y\n", 0)])
def test_cancel_asks_first(pileus: Pileus, stub: Stub, answer: str, status: int) -> None:
    stub.answer("POST", f"{PATH}/cancel", JOB | {"state": "cancelled"})
    ran = pileus("jobs", "cancel", "job_1", piped=answer)
    assert ran.status == status
    assert ran.out.endswith("job_1 is cancelled.\n") == (status == 0)
    assert len(stub.keys) == (0 if status else 1)


def test_what_is_not_possible_is_told_as_the_server_puts_it(pileus: Pileus, stub: Stub) -> None:
    told = "The job job_1 cannot be cancelled: it is succeeded."
    stub.refuse("POST", f"{PATH}/cancel", 409, told)
    ran = pileus("jobs", "cancel", "job_1", "--yes")
    assert (ran.status, ran.err) == (1, f"pileus: {told}\n")
