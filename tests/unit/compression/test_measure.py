import json
from pathlib import Path

import numpy as np
import pytest

from made_models import tokenizer_content
from pileus.compression.measure import Examiner, calibration, share_interval
from pileus.compression.spec import Checks
from pileus.jobs.handler import JobFailed
from pileus.models.perplexity import Interval, Losses


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_content()))
    return tmp_path


def test_nothing_is_calibrated_on_that_the_perplexity_is_of(artefact: Path) -> None:
    text = artefact / "text.txt"
    text.write_text("".join(chr(97 + place % 24) for place in range(3_000)) + "z" * 100)
    examiner = Examiner(artefact, Checks(text=str(text), tokens=100), 0)
    assert examiner.tokens == 100
    assert "z" not in examiner.unseen(str(text))
    assert len(examiner.unseen(str(text))) == 3_000
    z = examiner.encode("z")[0]
    assert all(z not in sequence for sequence in calibration(examiner, str(text), 8, 64, 0))


def test_another_file_is_calibrated_on_as_a_whole(artefact: Path) -> None:
    text, other = artefact / "text.txt", artefact / "other.txt"
    text.write_text("a" * 500)
    other.write_text("b" * 50)
    assert Examiner(artefact, Checks(text=str(text), tokens=100), 0).unseen(str(other)) == "b" * 50


def test_a_text_that_is_tested_on_as_a_whole_leaves_nothing_to_learn(artefact: Path) -> None:
    text = artefact / "text.txt"
    text.write_text("abc" * 10)
    with pytest.raises(JobFailed, match="too short"):
        Examiner(artefact, Checks(text=str(text), tokens=100), 0).unseen(str(text))


def test_calibration_comes_from_all_over_a_file(artefact: Path) -> None:
    text = artefact / "text.txt"
    text.write_text("a" * 400 + "b" * 400)
    examiner = Examiner(artefact, Checks(), 0)
    sequences = calibration(examiner, str(text), 4, 32, 0)
    assert [len(sequence) for sequence in sequences] == [32] * 4
    assert sequences[0][0] != sequences[-1][-1]


def test_a_short_file_gives_fewer_sequences(artefact: Path) -> None:
    text = artefact / "text.txt"
    text.write_text("a" * 70)
    assert len(calibration(Examiner(artefact, Checks(), 0), str(text), 8, 32, 0)) == 2


def test_shares_are_paired_with_the_parents() -> None:
    parent = np.array([True] * 80 + [False] * 20)
    assert share_interval(parent, parent) == Interval(0, 0, 0)
    alone = share_interval(parent)
    assert alone is not None
    assert alone.value == pytest.approx(0.8)
    assert alone.low < alone.value < alone.high
    assert share_interval(parent[:0]) is None


def test_each_pair_of_the_task_is_told(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Even:
        """A `Foreseer` to which all is equally likely."""

        def __init__(self, folder: Path) -> None:
            pass

        def losses(self, ids: list[int], *_: object) -> Losses:
            return np.ones(len(ids) - 1, np.float32)

    monkeypatch.setattr("pileus.compression.measure.Foreseer", Even)
    told: list[tuple[str, int, int]] = []
    Examiner(artefact, Checks(items=3), 0).examine(artefact, lambda *said: told.append(said))
    assert [said for said in told if said[0] == "task"] == [("task", done, 3) for done in range(3)]
