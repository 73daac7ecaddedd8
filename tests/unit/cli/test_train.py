"""`pileus train` and `pileus tune` against a scripted server."""

from pathlib import Path

import pytest

from unit.cli.conftest import Pileus, Stub
from unit.cli.test_jobs import DONE, JOB, PATH

LAST = {"sequence": 9, "at": 0.0, "level": "info", "text": "kept as tiny-1: loss 2.5, tokens 20,480"}
MADE = {"model": "tiny", "number": 1, "artefact": "tiny-1", "job_id": "job_1"}


@pytest.fixture
def answering(stub: Stub) -> Stub:
    stub.answer("POST", "/v1/jobs", JOB | {"state": "queued", "started_at": None})
    stub.answer("GET", PATH, DONE)
    stub.answer("GET", f"{PATH}/logs?limit=1", {"data": [LAST]})
    stub.answer("GET", f"{PATH}/metrics?limit=5000", {"data": [{"step": 20, "values": {"loss": 2.5}}]})
    versions = [MADE, MADE | {"number": 2, "job_id": "job_2"}]
    stub.answer("GET", "/admin/v1/models", {"data": [{"name": "tiny", "versions": versions}]})
    return stub


def test_a_run_says_what_it_made_to_people_and_to_programs(pileus: Pileus, answering: Stub, tmp_path: Path) -> None:
    command = (
        "train",
        "gpt",
        "-d",
        str(tmp_path / "a.txt"),
        "--name",
        "tiny",
        "--set",
        "rate=1e-3",
        "--set",
        "steps=20",
    )
    assert pileus(*command).out == f"{LAST['text']}\n"
    assert answering.bodies == [
        {
            "kind": "train",
            "spec": {"recipe": "gpt", "data": [str(tmp_path / "a.txt")], "name": "tiny", "rate": 0.001, "steps": 20},
            "once": True,
        }
    ]
    told = pileus(*command, "--json").json()
    assert (told["figures"], told["made"]) == ({"loss": 2.5}, [MADE])


def test_a_file_has_the_fields_and_the_command_line_the_last_word(
    pileus: Pileus, answering: Stub, tmp_path: Path
) -> None:
    run = tmp_path / "run.toml"
    run.write_text('recipe = "bert"\ndata = "corpus.txt"\nsteps = 5\nwidth = 32\n')
    pileus("tune", str(run), "-s", "rate=1e-4:1e-2:log", "--trials", "3", "--set", "steps=7")
    spec = answering.bodies[0]["spec"]
    assert spec["train"] == {"recipe": "bert", "data": [str(tmp_path / "corpus.txt")], "steps": 7, "width": 32}
    assert (spec["space"], spec["trials"]) == ({"rate": "1e-4:1e-2:log"}, 3)


def test_paths_among_the_fields_are_meant_from_here_and_names_stay_names(
    pileus: Pileus, answering: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tokenizer.json").write_text("{}")
    pileus("train", "gpt", "-d", "a.txt", "--set", "tokenizer=sub/tokenizer.json", "--set", "base=mine-1")
    assert answering.bodies[0]["spec"] == {
        "recipe": "gpt",
        "data": [str(tmp_path / "a.txt")],
        "tokenizer": str(tmp_path / "sub" / "tokenizer.json"),
        "base": "mine-1",
    }
    (tmp_path / "sub" / "run.toml").write_text('recipe = "gpt"\ndata = "a.txt"\ntokenizer = "tokenizer.json"\n')
    pileus("train", "sub/run.toml")
    assert answering.bodies[1]["spec"]["tokenizer"] == str(tmp_path / "sub" / "tokenizer.json")


def test_nothing_is_left_behind_on_a_server_that_ends_with_the_command(
    pileus: Pileus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILEUS_API_KEY", raising=False)
    ran = pileus("train", "gpt", "-d", "a.txt", "--detach")
    assert ran.status == 1
    assert "--detach needs a running server" in ran.err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("train",), "name a recipe: gpt, bert"),
        (("train", "gpt"), "say with --data-file what to learn from"),
        (("train", "nowhere.toml"), "nowhere.toml: No such file"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(pileus: Pileus, command: tuple[str, ...], why: str) -> None:
    ran = pileus(*command)
    assert ran.status == 1
    assert why in ran.err
