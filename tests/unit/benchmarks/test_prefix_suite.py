"""Conversations keep what they share, and nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks import decisions
from benchmarks.answers import Timeline
from benchmarks.conversations import FASTER, PARTS, conversations
from benchmarks.suites.prefix import figures

FOREVER = 1000.0


def trace(folder: Path) -> Path:
    """Two turns of each of twenty conversations, and a prompt that is too long."""
    lines = []
    for turn in range(2):
        for number in range(20):
            blocks = [0, *(100 * number + block for block in range(1, 4 + turn))]
            line = {"timestamp": 8000 * turn + 10 * number, "input_length": 2000 + 512 * turn, "output_length": 80}
            lines.append(line | {"hash_ids": blocks})
    lines.append({"timestamp": 9000, "input_length": 80_000, "output_length": 8, "hash_ids": list(range(900, 1057))})
    path = folder / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_rounds_part_the_conversations_among_them(tmp_path: Path) -> None:
    rounds = [conversations(trace(tmp_path), number, FOREVER) for number in range(PARTS)]
    assert sum(map(len, rounds)) == 40
    assert all(len(turns) % 2 == 0 for turns in rounds)  # both turns of a conversation are in the same one


def test_turns_are_as_much_faster_and_shorter_as_said(tmp_path: Path) -> None:
    turns = [turn for number in range(PARTS) for turn in conversations(trace(tmp_path), number, FOREVER)]
    assert {(len(turn.prompt), turn.answer_tokens) for turn in turns} == {(250, 10), (314, 10)}
    assert max(turn.at_s for turn in turns) <= 9.0 / FASTER


def test_what_comes_after_the_end_is_left_out(tmp_path: Path) -> None:
    turns = [turn for number in range(PARTS) for turn in conversations(trace(tmp_path), number, 1.0 / FASTER)]
    assert len(turns) == 20


def test_the_next_turn_begins_with_the_whole_blocks_of_the_last_one(tmp_path: Path) -> None:
    for number in range(PARTS):
        turns = conversations(trace(tmp_path), number, FOREVER)
        for first, second in zip(turns[: len(turns) // 2], turns[len(turns) // 2 :], strict=True):
            assert first.prompt[: 3 * 64] == second.prompt[: 3 * 64]
            assert first.prompt[3 * 64 :] != second.prompt[3 * 64 : 250]


def test_where_nothing_is_shared_no_two_prompts_begin_alike(tmp_path: Path) -> None:
    for number in range(PARTS):
        alike = conversations(trace(tmp_path), number, FOREVER)
        apart = conversations(trace(tmp_path), number, FOREVER, shared=False)
        assert [(turn.at_s, len(turn.prompt)) for turn in apart] == [(turn.at_s, len(turn.prompt)) for turn in alike]
        assert len({turn.prompt[:64] for turn in apart}) == len(apart)


def test_a_decision_is_timed_with_requests_that_come_and_begin_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "REPLICAS", 20)
    monkeypatch.setattr(decisions, "DECISIONS", 150)
    told = decisions.cost(2048, 1)
    assert 0 < told["decision_p50_us"] <= told["decision_p99_us"]


def test_hits_are_of_all_prompt_tokens_and_latencies_of_those_answered() -> None:
    lines = [Timeline(0.0, (0.1 * number,), 1, 100, 60 * (number % 2)) for number in range(1, 11)]
    told = figures(lines, sent=20)
    assert round(told["ttft_p50_ms"]) == 500
    assert round(told["ttft_p99_ms"]) == 1000
    assert (told["hit_percent"], told["answered_percent"]) == (30.0, 50.0)
