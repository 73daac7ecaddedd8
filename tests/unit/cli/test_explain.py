"""`pileus explain attention` against a scripted server."""

from pathlib import Path

import pytest

from unit.cli.conftest import Pileus, Stub
from unit.cli.test_jobs import DONE, JOB, PATH

RESULT = {
    "model": "m",
    "tokens": ["a", "b"],
    "layers": 2,
    "heads": 1,
    "maps": [{"layer": layer, "head": 0, "weights": "/wCAfw=="} for layer in (0, 1)],
}


def test_the_last_layer_is_shown_or_drawn_into_a_folder_that_is_made(
    pileus: Pileus, stub: Stub, tmp_path: Path
) -> None:
    stub.answer("POST", "/v1/jobs", JOB | {"started_at": None})
    stub.answer("GET", PATH, DONE)
    stub.answer("GET", "/admin/v1/evaluations/job_1", {"result": RESULT})
    rows = pileus("explain", "attention", "a b").out.splitlines()[2:]
    assert [row.split()[:3] for row in rows] == [["1", "0", "'a'"], ["1", "0", "'b'"]]
    pytest.importorskip("matplotlib", reason="the `train` extra is not installed: `make extras`")
    picture = tmp_path / "new" / "a.png"
    assert pileus("explain", "attention", "a b", "--png", str(picture)).status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_kept_is_told_before_anything_is_computed(
    pileus: Pileus, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    pytest.importorskip("matplotlib", reason="the `train` extra is not installed: `make extras`")
    ran = pileus("explain", "attention", "a b", "--png", str(tmp_path / "file" / "a.png"))
    assert ran.status == 1
    assert stub.bodies == []
