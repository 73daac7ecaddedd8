"""`pileus eval` against a scripted server."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pileus.cli import evaluating, watch
from unit.cli.conftest import Pileus, Stub
from unit.cli.test_jobs import JOB, PATH

OWN = "/admin/v1/deployments/eval-tiny"


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"prompt": "2 + 2?", "reference": "4"}')
    return str(file)


def interrupted_at(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """Ctrl-C in that pause between two looks at the job."""
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == look:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(evaluating, "sleep", lambda _: None)


def script(stub: Stub, deployments: list[dict[str, Any]]) -> None:
    """A job that runs until it is asked to pause."""
    stub.answer("GET", "/admin/v1/deployments", {"data": deployments})
    stub.answer("PUT", OWN, {})
    stub.answer("DELETE", OWN, {})
    stub.answer("GET", OWN, {"act": None, "ready": True})
    stub.answer("POST", "/v1/jobs", JOB)
    stub.answer("POST", f"{PATH}/pause", JOB | {"wish": "pause"})
    stub.answer_in_turn("GET", PATH, JOB, JOB | {"wish": "pause"}, JOB | {"state": "paused"})


def test_a_job_rests_before_the_deployment_that_it_asks_goes(
    pileus: Pileus, stub: Stub, monkeypatch: pytest.MonkeyPatch, tasks: str
) -> None:
    script(stub, [])
    interrupted_at(monkeypatch, 1)
    ran = pileus("eval", "tiny", "--tasks", tasks)
    assert ran.status == 130
    assert "job_1 is paused; the same command goes on with it" in ran.err
    assert stub.asked[-4:] == [("POST", f"{PATH}/pause"), ("GET", PATH), ("GET", PATH), ("DELETE", OWN)]


def test_a_job_that_asks_a_lasting_deployment_goes_on(
    pileus: Pileus, stub: Stub, monkeypatch: pytest.MonkeyPatch, tasks: str
) -> None:
    script(stub, [{"name": "tiny", "aliases": [], "model": "tiny-1"}])
    interrupted_at(monkeypatch, 1)
    assert "The job goes on" in pileus("eval", "tiny", "--tasks", tasks).err
    assert stub.asked[-1] == ("GET", PATH)
