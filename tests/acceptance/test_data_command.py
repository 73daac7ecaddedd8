"""`pileus data prepare`, with a server of its own."""

import json
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from acceptance.process import environment, frozen, pileus
from acceptance.test_batch_command import eventually
from pileus.data.shards import ShardReader

pytest.importorskip("ftfy", reason="the `data` extra is not installed: `make extras`")

_WORDS = [
    f"{first}{second}" for first in ("the", "and", "of", "mill", "stone") for second in ("", "s", "er", "ing", "ly")
]


def corpus(folder: Path, documents: int) -> Path:
    """With one bad line."""
    folder.mkdir()
    texts = [" ".join(random.Random(number).choices(_WORDS, k=150)) for number in range(documents)]
    lines = [json.dumps({"text": f"the of and {text}"}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join([*lines, "nonsense"]))
    return folder


def test_a_folder_becomes_a_dataset_and_is_reported(tmp_path: Path) -> None:
    inputs, out = corpus(tmp_path / "corpus", 100), tmp_path / "dataset"
    home = ("--data", str(tmp_path / "home"))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("near = false\nvalidation = 0.2\n[tokenizer]\nvocabulary = 300\n[rules]\nrepetition = false\n")
    done = pileus("data", "prepare", str(inputs), "--out", str(out), "--recipe", str(recipe), "--json", *home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["account"]["bad_records"] == [
        {"place": f"{inputs}/texts.jsonl, line 101", "reason": "is no JSON object"}
    ]
    assert ShardReader(out).documents == told["splits"]["train"]["documents"]
    assert sum(split["documents"] for split in told["splits"].values()) == 100
    assert told["id"] in pileus("data", "report", str(out)).stdout
    again = pileus("data", "prepare", str(inputs), "--out", str(out), *home)
    assert again.returncode == 1
    assert "is there already, and is not empty" in again.stderr


def computing_in(folder: Path) -> int:
    """The process that computes for the job of this folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder and b"pileus.data.process" in (process / "cmdline").read_bytes():
                return int(process.name)
    raise AssertionError("nobody computes")


def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path: Path) -> None:
    inputs, out = corpus(tmp_path / "corpus", 3_000), tmp_path / "dataset"
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"piece_bytes": 32_768, "tokenizer": {"vocabulary": 300}, "processes": 1}))
    arguments = ("data", "prepare", str(inputs), "-o", str(out), "-r", str(recipe), "--data", str(tmp_path / "home"))
    command = [sys.executable, "-m", "pileus", *arguments]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: len(list(tmp_path.glob("home/jobs/*/pieces/*.json"))) > 2)
        [folder] = tmp_path.glob("home/jobs/*")
        with frozen(computing_in(folder)):  # else it may be done before the command hears of the interruption
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert any("is paused; the same command goes on" in line for line in process.stderr)
        assert process.wait(60) == 130
    assert not out.exists()
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("home/jobs/*/pieces/*.json")}
    assert first
    done = pileus(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert "goes on" in done.stderr
    assert json.loads(done.stdout)["account"]["read"] == 3_000
    assert len(list(tmp_path.glob("home/jobs/*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("data", "prepare", "--out", "x"), "name files or folders"),
        (("data", "prepare", "x"), "--out"),
        (("data", "prepare", "x", "-o", "y", "--documents", "word"), "`documents` should be one of"),
        (("data", "prepare", "x", "-o", "y", "--tokenizer", "wordpiece"), "there is no file wordpiece"),
        (("data", "report", "nowhere"), "holds no dataset"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(arguments: tuple[str, ...], why: str) -> None:
    done = pileus(*arguments)
    assert done.returncode == 1
    assert why in done.stderr
