"""The whole input is checked before anything runs."""

import json
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import validating_process
from pileus.batch.validation import MOST_PROBLEMS, Validation
from unit.batch.bench import PATH, ScriptedEndpoint, asks, line_of


def validate(content: bytes, **limits: int) -> Validation:
    chosen = {"max_lines": 100, "max_bytes": 100_000, "max_line_bytes": 1000, **limits}
    validation = Validation(ScriptedEndpoint(), PATH, **chosen)
    validation.feed(content)
    return validation


def told(validation: Validation) -> list[tuple[int | None, str, str | None]]:
    assert validation.finish() is None
    return [(problem.line, problem.code, problem.param) for problem in validation.problems]


def lines(found: list[dict[str, Any]]) -> bytes:
    return b"".join(map(line_of, found))


def test_a_plan_knows_where_each_line_stands_and_for_whom_it_is() -> None:
    content = b"\xef\xbb\xbf" + lines(asks("a", "b")).replace(b"\n", b"\r\n") + b"\n" + lines(asks("c")).strip()
    plan = validate(content).finish()
    assert plan is not None
    assert plan.deployments == ["clouds"]
    stands = [plan.extent(place) for place in range(3)]
    assert [json.loads(content[offset : offset + length])["custom_id"] for offset, length in stands] == ["a", "b", "c"]


def test_lines_for_several_deployments_stand_together_in_the_order_of_running() -> None:
    found = asks("a", "b", "c", "d")
    found[1]["body"]["model"] = found[3]["body"]["model"] = "rain"
    plan = validate(lines(found)).finish()
    assert plan is not None
    assert list(plan.turns()) == [("clouds", 0), ("clouds", 2), ("rain", 1), ("rain", 3)]


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_a_file_without_lines_is_refused(content: bytes) -> None:
    assert told(validate(content)) == [(None, "empty_batch", None)]


def test_one_line_too_many_is_told_by_its_number_and_nothing_after_it_is_read() -> None:
    validation = validate(lines(asks(*map(str, range(9)))) + b"nonsense\n", max_lines=5)
    assert validation.given_up
    assert told(validation) == [(6, "too_many_tasks", None)]


def test_a_file_that_is_too_large_is_refused() -> None:
    assert told(validate(lines(asks("a", "b")), max_bytes=120)) == [(None, "file_too_large", None)]


def test_a_line_that_is_too_long_is_told_by_its_number() -> None:
    assert told(validate(lines(asks("a", "b" * 500, "c")), max_line_bytes=300)) == [(2, "invalid_request", None)]


def test_problems_are_told_up_to_a_bound() -> None:
    assert len(told(validate(b"{\n" * 5000, max_lines=10_000))) == MOST_PROBLEMS


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12))
def test_every_custom_id_that_was_there_before_is_told_with_its_line(names: list[str]) -> None:
    validation = validate(lines(asks(*names)))
    plan = validation.finish()
    again = [number for number, name in enumerate(names, 1) if name in names[: number - 1]]
    assert [problem.line for problem in validation.problems] == again
    assert (plan is None) == bool(again)
    for problem in validation.problems:
        assert problem.line is not None
        assert f"line {names.index(names[problem.line - 1]) + 1} " in problem.message


def test_the_largest_batch_is_checked_in_little_memory_and_its_one_bad_line_is_told() -> None:
    with TemporaryDirectory() as folder:  # it takes 400 MB
        command = [sys.executable, validating_process.__file__, folder]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert found["lines"] == 50_000
    assert found["bytes"] > 195 * 2**20
    assert found["problems"] == [[validating_process.BAD_LINE, "body.temperature"]]
    assert found["grew_mb"] < 50
