"""Tables to lines of a batch, and answers back into the table."""

import json
from pathlib import Path

import pytest

from pileus.cli.answers import save_answers
from pileus.cli.tables import batch_lines, rows
from pileus.core.errors import OperatorError


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_each_row_fills_the_template(tmp_path: Path) -> None:
    path = table(tmp_path, 'text,mark\n"fine, really",5\n差,1\n')
    lines = [json.loads(line) for line in batch_lines(path, "{mark}: {{{text}}}", "Judge.", {"model": "m", "n": 1})]
    assert [line["custom_id"] for line in lines] == ["row-1", "row-2"]
    assert lines[1] == {
        "custom_id": "row-2",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "n": 1,
            "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "1: {差}"}],
        },
    }
    assert lines[0]["body"]["messages"][1]["content"] == "5: {fine, really}"


def test_a_column_that_is_not_there_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"no column 'body'; it has: text, mark"):
        list(batch_lines(table(tmp_path, "text,mark\na,b\n"), "{body}", None, {}))


@pytest.mark.parametrize("row", ["a", "a,b,c"])
def test_a_row_of_another_length_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(OperatorError, match=r"line 3: this row has not 2 columns"):
        list(rows(table(tmp_path, f"text,mark\na,b\n{row}\n")))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not in UTF-8"):
        list(rows(table(tmp_path, "text\nschön\n", "latin-1")))


def test_answers_come_back_beside_their_rows(tmp_path: Path) -> None:
    path = table(tmp_path, '\ufefftext\n"two\nlines"\nb\nc\n')
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(
            json.dumps(
                {"custom_id": f"row-{n}", "response": {"body": {"choices": [{"message": {"content": f"answer {n}"}}]}}}
            )
            + "\n"
            for n in (3, 1)
        )
    )
    save_answers(path, answers, tmp_path / "out.csv")
    assert list(rows(tmp_path / "out.csv")) == [
        {"text": "two\nlines", "answer": "answer 1"},
        {"text": "b", "answer": ""},
        {"text": "c", "answer": "answer 3"},
    ]


def test_braces_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"write \{\{\}\} for braces"):
        list(batch_lines(table(tmp_path, "text\na\n"), "Like {} for {text}", None, {}))
    [line] = batch_lines(table(tmp_path, "text\na\n"), "Like {{}} for {text}", None, {})
    assert json.loads(line)["body"]["messages"][0]["content"] == "Like {} for a"


@pytest.mark.parametrize("text", ["=1+1", '=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1"])
def test_an_answer_that_a_spreadsheet_would_compute_stays_a_text(tmp_path: Path, text: str) -> None:
    path, answers = table(tmp_path, "text\na\n"), tmp_path / "answers.jsonl"
    body = {"choices": [{"message": {"content": text}}]}
    answers.write_text(json.dumps({"custom_id": "row-1", "response": {"body": body}}) + "\n")
    save_answers(path, answers, tmp_path / "out.csv")
    assert [row["answer"] for row in rows(tmp_path / "out.csv")] == [f"'{text}"]
