import json
from pathlib import Path

import pytest

from pileus.core.records import Message
from pileus.evaluation.tasks import TaskError, TaskSpec, format_of, load_task

DATA = Path(__file__).parents[4] / "shared" / "data"


def load(path: Path, text: str, **options: object) -> "list[tuple[str, tuple[str, ...]]]":
    path.write_text(text, encoding="utf-8")
    task = load_task(TaskSpec(path=str(path), **options))  # type: ignore[arg-type]
    return [(item.messages[-1].content, item.references) for item in task.items]


def test_lines_of_ones_own_are_prompts_or_messages(tmp_path: Path) -> None:
    lines = [
        {"prompt": "2 + 2?", "reference": "4"},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "references": []}
        | {"references": ["Hello", "Hi"]},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    task = load_task(TaskSpec(path=str(path)))
    assert task.name == "own"
    assert task.items[0].messages == (Message("user", "2 + 2?"),)
    assert [message.role for message in task.items[1].messages] == ["system", "user"]
    assert task.items[1].references == ("Hello", "Hi")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"prompt": "x", "reference": "y"', "line 2"),
        ('{"prompt": "x"}', "line 2: it needs `reference`"),
        ('{"reference": "y"}', "line 2: it needs `prompt` or `messages`"),
        ('{"prompt": "x", "refrence": "y"}', "line 2: Object contains unknown field `refrence`"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(TaskError, match=why):
        load(tmp_path / "own.jsonl", '{"prompt": "a", "reference": "b"}\n' + line)


def test_known_formats_are_read(tmp_path: Path) -> None:
    answers = [{"text": "two"}, {"text": "two"}, {"text": "2"}]
    questions = [{"question": "Q", "answers": answers}, {"question": "R", "answers": [], "is_impossible": True}]
    squad = {"data": [{"paragraphs": [{"context": "C", "qas": questions}]}]}
    [(prompt, references)] = load(tmp_path / "xquad.zz.json", json.dumps(squad))
    assert prompt.startswith("C\n")
    assert references == ("two", "2")
    gsm8k = json.dumps({"question": "How many?", "answer": "3 + 4 = 7\n#### 7"})
    assert load(tmp_path / "gsm8k.jsonl", gsm8k)[0][1] == ("7",)
    labelled = "Good, really.\t1\nBad.\t0\nno label\n"
    assert [r for _, r in load(tmp_path / "uci_labelled.txt", labelled)] == [("positive",), ("negative",)]
    [(prompt, references)] = load(tmp_path / "banking77_test.csv", 'text,category\n"Where, now?",card_arrival\n')
    assert "Where, now?" in prompt
    assert "card_arrival" in prompt
    assert references == ("card_arrival",)
    assert load(tmp_path / "tatoeba.tsv", "Hi.\t嗨。\tx\nHi.\t你好。\ty\n")[0][1] == ("嗨。", "你好。")


def test_a_line_that_is_not_of_the_format_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"tatoeba\.tsv is not of the format tatoeba"):
        load(tmp_path / "tatoeba.tsv", "no tab here\n")


def test_a_file_that_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="not of the format gsm8k"):
        load(tmp_path / "x.jsonl", "{}", format="gsm8k")
    with pytest.raises(TaskError, match="cannot be read"):
        load_task(TaskSpec(path=str(tmp_path / "none.jsonl")))
    with pytest.raises(TaskError, match="no items"):
        load(tmp_path / "empty.jsonl", "")
    with pytest.raises(ValueError, match="`format` should be one of"):
        TaskSpec(path="x", format="excel")


@pytest.mark.skipif(not DATA.is_dir(), reason="the evaluation data is not here")
@pytest.mark.parametrize(
    ("file", "form", "items"),
    [
        ("qa/xquad.zh.json", "squad", 1190),
        ("qa/cmrc2018_trial.json", "squad", 1002),
        ("qa/gsm8k_test.jsonl", "gsm8k", 1319),
        ("intent/banking77_test.csv", "banking77", 3080),
        ("sentiment/uci_imdb_labelled.txt", "sentiment", 1000),
        ("mt/tatoeba_en-zh.tsv", "tatoeba", 24822),
    ],
)
def test_public_data_is_read_whole(file: str, form: str, items: int) -> None:
    assert format_of(DATA / file) == form
    assert len(load_task(TaskSpec(path=str(DATA / file))).items) == pytest.approx(items, rel=0.05)
