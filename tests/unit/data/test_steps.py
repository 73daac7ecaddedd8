"""Languages, evaluation sets and splits."""

import json
from pathlib import Path

import numpy as np
import pytest

from pileus.core.errors import OperatorError
from pileus.data.contamination import Contamination, runs_of
from pileus.data.evaluation import texts_of
from pileus.data.split import split_of
from pileus.data.words import words_of
from unit.data.texts import chinese, english

QUESTION = "How many apples does Anna have left when she gives five of her twelve apples to three friends each day?"
CHINESE = "小明有十二个苹果，他每天给三个朋友五个，请问他最后还剩下几个苹果？"


def test_languages_are_told_apart() -> None:
    pytest.importorskip("lingua", reason="the `data` extra is not installed: `make extras`")
    from pileus.data.language import Identifier

    identifier = Identifier(("en", "zh"))
    assert identifier.identify("The weather was fine and we went out to see the river near the old town.") == "en"
    assert identifier.identify("Der Fluss fließt durch ein breites Tal, und sein Wasser ist sehr kalt.") == "de"
    assert identifier.identify("今天天气很好，我们出去看了老城附近的河。") == "zh"
    assert identifier.identify("今日は天気がよかったので、川を見に行きました。") == "ja"
    assert identifier.identify("오늘은 날씨가 좋아서 강을 보러 갔습니다.") == "ko"
    assert identifier.identify("Сегодня была хорошая погода, и мы пошли смотреть на реку.") not in ("en", "zh")
    with pytest.raises(OperatorError, match="'xx'"):
        Identifier(("xx",))


@pytest.mark.parametrize(("question", "other"), [(QUESTION, english(1)), (CHINESE, chinese(1))])
def test_a_document_that_holds_a_question_is_found(question: str, other: str) -> None:
    contamination = Contamination(runs_of([question, english(7)]))
    changed = question.upper().replace(",", " -").replace("，", "。")  # how it is written does not matter
    assert contamination.overlaps(words_of(f"{other} {changed} {other}"))
    assert not contamination.overlaps(words_of(other))
    assert not Contamination(runs_of(())).overlaps(words_of(other))


def test_a_part_that_is_shorter_than_a_run_is_none() -> None:
    contamination = Contamination(runs_of([QUESTION]))
    assert not contamination.overlaps(words_of(" ".join(QUESTION.split()[:12])))
    assert contamination.overlaps(words_of(" ".join(QUESTION.split()[:13]))) == 1


def test_evaluation_sets_are_read_in_any_form(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"q": "one", "n": 1}, ["two"]]}))
    (tmp_path / "b.jsonl").write_text('{"question": "three", "x": {"y": "four"}}\n')
    (tmp_path / "c.csv").write_text("q\nfive\n")
    (tmp_path / "d.txt").write_text("six\n")
    found = {text.strip() for text in texts_of([str(tmp_path)])}
    assert found == {"one", "two", "three", "four", "q", "five", "six"}
    (tmp_path / "b.jsonl").write_text("{")
    with pytest.raises(OperatorError, match=r"b\.jsonl cannot be read"):
        list(texts_of([str(tmp_path)]))


def test_shares_are_as_asked_and_a_document_stays_in_its_split() -> None:
    digests = np.random.RandomState(1).randint(0, 1 << 63, 20_000, dtype=np.uint64) * np.uint64(2)
    chosen = split_of(digests, 0.05, 0.1)
    assert np.mean(chosen == 1) == pytest.approx(0.05, abs=0.01)
    assert np.mean(chosen == 2) == pytest.approx(0.1, abs=0.01)
    assert (split_of(digests[::3], 0.05, 0.1) == chosen[::3]).all()
