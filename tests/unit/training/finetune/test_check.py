"""A file of examples is checked by line, and never held as a whole."""

import json
from typing import Any

import pytest

from pileus.training.finetune.check import MOST_TOLD, Check, Measured, Report
from pileus.training.finetune.examples import MOST_LINE_BYTES, Conversation, Example
from pileus.training.finetune.records import Method

Line = dict[str, Any] | bytes


def example(question: str = "How much?", answer: str = "Two.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


GOOD: list[Line] = [example(f"How much is {number}?") for number in range(12)]


def pair(**changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": "Is it?"}]},
        "preferred_output": [{"role": "assistant", "content": "yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
        **changes,
    }


def report(lines: list[Line], method: Method = Method.SUPERVISED, **options: Any) -> Report:
    check = Check(method, **options)
    whole = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    for start in range(0, len(whole), 1000):
        check.feed(whole[start : start + 1000])
    return check.finish()


def at(place: int, line: Line) -> list[Line]:
    """The good lines with another one at a place, counted from 1."""
    return [*GOOD[: place - 1], line, *GOOD[place:]]


def test_a_file_in_order_has_nothing_found() -> None:
    found = report(GOOD)
    assert (found.examples, found.findings) == (12, [])


MESSAGES: list[tuple[Line, str, str]] = [
    (b'{"messages": [', "invalid_json", "not valid JSON"),
    (b"[1, 2]", "invalid_json", "not a JSON object"),
    (b'{"messages": [], "messages": []}', "invalid_json", "duplicate"),
    ({}, "missing_field", "`messages` is required"),
    ({"messages": "hi"}, "invalid_example", "should be an array"),
    ({"messages": []}, "empty", "has no messages"),
    ({"messages": ["hi"]}, "invalid_example", "`messages[0]` should be an object"),
    ({"messages": [{"role": "robot", "content": "hi"}]}, "wrong_role", "'robot'"),
    ({"messages": [{"role": "user", "content": "hi"}]}, "wrong_role", "should be the assistant's"),
    ({"messages": [{"role": "user", "content": "  "}]}, "empty", "`messages[0].content` is empty"),
    ({"messages": [{"role": "user"}]}, "missing_field", "`messages[0].content` is required"),
    ({"messages": [{"role": "user", "content": 3}]}, "invalid_example", "should be a string"),
    ({"messages": [{"role": "user", "content": "a", "weight": 1}]}, "invalid_example", "weight"),
    ({**example(), "prompt": "x"}, "unknown_field", "`prompt` is not a field"),
    (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
        "nothing_to_learn",
        "weight 0",
    ),
    (
        {"messages": [*example()["messages"], {"role": "system", "content": "Be good."}]},
        "wrong_role",
        "Only the first message",
    ),
    (b'{"messages": "' + b"x" * (MOST_LINE_BYTES + 10) + b'"}', "line_too_long", "bytes"),
]


@pytest.mark.parametrize(("line", "code", "words"), MESSAGES, ids=[words for _, _, words in MESSAGES])
def test_a_bad_line_is_told_with_its_number(line: Line, code: str, words: str) -> None:
    [finding] = report(at(7, line)).findings
    assert (finding.level, finding.code, finding.line) == ("error", code, 7)
    assert words in finding.message
    assert finding.text.startswith("line 7: ")


PAIRS: list[tuple[dict[str, Any], str]] = [
    (pair(preferred_output=[]), "`preferred_output` has no messages"),
    (pair(non_preferred_output=pair()["preferred_output"]), "the same"),
    (pair(preferred_output=[{"role": "user", "content": "yes"}]), "should be one message, the assistant's"),
    (pair(input={"messages": example()["messages"]}), "should be the user's"),
    (pair(input={"messages": [{"role": "user", "content": "a"}], "tools": []}), "`input.tools` is not a field"),
    (example(), "`messages` is not a field"),
]


@pytest.mark.parametrize(("line", "words"), PAIRS, ids=[words for _, words in PAIRS])
def test_a_bad_preference_is_told_with_its_number(line: dict[str, Any], words: str) -> None:
    good = [pair(input={"messages": [{"role": "user", "content": f"Is {n} it?"}]}) for n in range(12)]
    [finding] = report([*good[:3], line, *good[4:]], Method.DPO).findings
    assert (finding.level, finding.line) == ("error", 4)
    assert words in finding.message


def test_an_empty_file_and_one_line_only_are_refused() -> None:
    assert [finding.code for finding in report([]).errors] == ["empty_file"]
    [alone] = report(GOOD[:1]).errors
    assert alone.message == "The file has 1 example; at least 10 are needed."
    assert report(GOOD[:1], fewest=1).errors == []


def test_blank_lines_count_as_editors_count_them() -> None:
    [finding] = report([*GOOD, b"", b"  ", b"{"]).findings
    assert finding.line == 15


def test_duplicates_are_warned_of_with_the_line_of_the_first() -> None:
    found = report([*GOOD, GOOD[3]])
    [finding] = found.findings
    assert (finding.level, finding.line) == ("warning", 13)
    assert "line 4" in finding.message
    assert found.errors == []


PERSONAL = [
    ("write to ada@example.org", "e-mail address"),
    ("my card is 4111 1111 1111 1111", "card number"),
    ("pay to DE89 3704 0044 0532 0130 00", "bank account"),
    ("身份证 11010519491231002X", "identity number"),
    ("call +49 30 901820", "phone number"),
    ("it came from 192.168.3.4", "network address"),
]


@pytest.mark.parametrize(("text", "kind"), PERSONAL, ids=[kind for _, kind in PERSONAL])
def test_personal_data_is_warned_of_by_kind_and_not_repeated(text: str, kind: str) -> None:
    [finding] = report(at(5, example(text))).findings
    assert (finding.level, finding.code, finding.line) == ("warning", "personal_data", 5)
    assert kind in finding.message
    assert text not in finding.message


@pytest.mark.parametrize("text", ["card 4111 1111 1111 1112", "order 123456789", "2024-05-06 at 10:20:30", "3.14159"])
def test_numbers_without_a_meaning_are_no_personal_data(text: str) -> None:
    assert report(at(5, example(text))).findings == []


def measure(given: Example) -> Measured:
    assert isinstance(given, Conversation)
    tokens = len(given.messages[0].content)
    return Measured(min(tokens, 20), min(tokens, 20), answers=0 if tokens > 30 else 2, cut=max(tokens - 20, 0))


def test_what_is_too_long_is_cut_with_a_warning_or_refused_where_no_answer_is_left() -> None:
    found = report([*GOOD, example("x" * 25), example("x" * 40)], measure=measure)
    cut, refused = found.findings
    assert (cut.level, cut.line) == ("warning", 13)
    assert "25 tokens" in cut.message
    assert (refused.level, refused.code, refused.line) == ("error", "too_long", 14)
    assert found.longest == 20


def test_findings_are_bounded_and_all_counted() -> None:
    found = report([*GOOD, *[b"{"] * (MOST_TOLD + 50)])
    assert len(found.errors) == MOST_TOLD
    assert found.counts["invalid_json"] == MOST_TOLD + 50
    assert found.summary.count("not valid JSON") == 3
    assert found.summary.endswith("(97 more)")
