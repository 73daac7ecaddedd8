"""Commands that begin a job and watch it, against a scripted server."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pileus.cli import watch
from pileus.cli.client import Client
from unit.cli.conftest import Stub
from unit.cli.test_jobs import DONE, JOB, PATH

SPEC = {"recipe": "gpt"}


@pytest.fixture
def client(stub: Stub) -> Iterator[Client]:
    with Client(stub.url) as client:
        yield client


def test_what_was_begun_before_goes_on_and_is_told(
    client: Client, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answer("POST", "/v1/jobs", JOB | {"state": "queued", "started_at": None})
    watch.begin_job(client, "train", SPEC)
    assert stub.bodies == [{"kind": "train", "spec": SPEC, "once": True}]
    assert capsys.readouterr().err == ""
    stub.answer("POST", "/v1/jobs", JOB)
    assert watch.begin_job(client, "train", SPEC) == JOB
    assert capsys.readouterr().err == "job_1 goes on.\n"


@pytest.mark.parametrize("change", [{"state": "paused"}, {"wish": "pause"}])
def test_one_that_was_paused_is_resumed(client: Client, stub: Stub, change: dict[str, str]) -> None:
    stub.answer("POST", "/v1/jobs", JOB | change)
    stub.answer("POST", f"{PATH}/resume", JOB | {"state": "queued"})
    assert watch.begin_job(client, "train", SPEC)["state"] == "queued"


@pytest.mark.parametrize(
    ("lasts", "pauses", "told"),
    [
        (True, False, "`pileus jobs show job_1 --watch` follows it again"),
        (True, True, "job_1 is paused"),
        (False, True, "job_1 is paused; the same command goes on with it"),
        (False, False, "so does the next server of this data folder"),
    ],
)
def test_ctrl_c_says_what_becomes_of_the_job(
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lasts: bool,
    pauses: bool,
    told: str,
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=interrupted))
    stub.answer("GET", PATH, JOB)
    stub.answer("POST", f"{PATH}/pause", JOB | {"wish": "pause"})
    with Client(stub.url, lasts=lasts) as client, pytest.raises(KeyboardInterrupt):
        watch.watch_job(client, "job_1", pauses=pauses)
    assert told in capsys.readouterr().err
    assert stub.bodies == ([{}] if pauses else [])


def test_a_job_that_waits_says_for_which(
    client: Client, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.001)
    monkeypatch.setattr("pileus.cli.progress._TELL_S", 0.0)
    queued = JOB | {"state": "queued", "stage": "", "total": 0}
    stub.answer_in_turn("GET", PATH, queued, queued, queued, DONE | {"stage": ""})
    others = [{"data": [JOB | {"id": "job_0"}]}] * 2
    stub.answer_in_turn("GET", "/v1/jobs?kind=batch&state=running&limit=1", *others, {"data": []})
    watch.watch_job(client, "job_1", "waiting")
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("queued")[2] for line in told] == ["", ", while job_0 runs", ""]
    assert told[2].endswith("queued")


def test_in_a_log_the_end_does_not_name_an_earlier_stage_again(
    client: Client, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.001)
    stub.answer_in_turn(
        "GET", PATH, JOB | {"stage": "training"}, JOB | {"stage": "installing"}, DONE | {"stage": "training"}
    )
    watch.watch_job(client, "job_1")
    assert capsys.readouterr().err.splitlines() == ["Training ...", "Installing ..."]
