"""`pileus data check`: a report by line, and an exit status that a script can go by."""

import json
from pathlib import Path

from made_models import write_tiny_gguf
from unit.cli.conftest import Pileus


def line(number: int, answer: str = "Two.") -> str:
    messages = [{"role": "user", "content": f"How much is {number}?"}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


def test_a_file_in_order_is_said_to_be(pileus: Pileus, tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(map(line, range(12))))
    ran = pileus("data", "check", str(file))
    assert (ran.status, ran.out) == (0, "12 examples in order; 0 errors, 0 warnings told.\n")


def test_each_problem_is_told_by_its_line(pileus: Pileus, tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    lines = [line(number) for number in range(12)]
    file.write_text("".join([*lines, "{\n", lines[0], line(20, "ada@example.org")]))
    ran = pileus("data", "check", str(file))
    told = ran.out.splitlines()
    assert ran.status == 1
    assert told[0].startswith("error: line 13: This line is not valid JSON")
    assert told[1] == "warning: line 14: This is the example of line 1 once more."
    assert told[2].startswith("warning: line 15: It seems to hold personal data: e-mail address.")
    found = pileus("data", "check", str(file), "--json").json()
    assert (found["ok"], found["examples"], found["findings"][0]["line"]) == (False, 14, 13)


def test_a_model_counts_the_tokens(pileus: Pileus, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    data = ("--data", str(tmp_path / "data"))
    assert pileus("models", "import", str(tmp_path / "tiny.gguf"), "mine", *data).status == 0
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(map(line, range(12))) + line(13, "long " * 50))
    found = pileus("data", "check", str(file), "--model", "mine", *data, "--json").json()
    assert found["tokens"] > 12 * 30
    [finding] = found["findings"]
    assert (finding["code"], finding["line"], finding["level"]) == ("too_long", 13, "warning")


def test_what_is_not_there_is_said_so(pileus: Pileus, tmp_path: Path) -> None:
    assert "there is no file" in pileus("data", "check", str(tmp_path / "nothing.jsonl")).err
    assert pileus("data", "check", str(tmp_path), "--method", "guess").status == 2
