"""The same arrivals for reality and for the simulator, and an honest verdict about the two."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import agreement, report
from benchmarks.answers import Timeline
from benchmarks.results import Machine, Measurement, Results, Target
from benchmarks.suites import simulator
from benchmarks.suites.simulator import Asked, Served
from pileus.simulation import traces


def test_each_round_sends_the_same_lengths_at_the_same_times() -> None:
    assert list(simulator.steady(5.0, 20.0)) == list(simulator.steady(5.0, 20.0))
    assert list(simulator.bursts(40.0)) == list(simulator.bursts(40.0))


def test_steady_arrivals_come_in_order_and_at_their_rate() -> None:
    asked = list(simulator.steady(5.0, 200.0))
    assert all(one.at_s <= other.at_s < 200.0 for one, other in pairwise(asked))
    assert 900 < len(asked) < 1100


def test_each_round_has_words_of_its_own_behind_those_that_a_family_shares() -> None:
    asked = [Asked(0.0, 20, 1, family=0), Asked(0.0, 30, 1, family=0), Asked(0.0, 30, 1, family=1), Asked(0.0, 30, 1)]
    first, second = ([text.split() for text in simulator.prompts(asked, seed)] for seed in ("1", "2"))
    assert [len(words) for words in first] == [len(words) for words in second] == [540, 550, 550, 30]
    assert first[0][:520] == first[1][:520] != first[2][:520]
    assert first[0][520:540] != first[1][520:540]
    assert first[0][:8] != second[0][:8]


def served(sent_s: float, prompt: int, answer: int, family: int | None = None) -> Served:
    pieces = tuple(sent_s + 0.5 + place for place in range(answer))
    return Served(Asked(sent_s, 1, answer, family), Timeline(sent_s, pieces, answer, prompt))


def test_the_simulator_reads_what_was_sent_with_the_prompts_that_begin_alike(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "one.jsonl"
    simulator.write_trace([served(103.0, 600, 3, 1), served(100.0, 700, 2, 1), served(102.0, 1100, 4)], path)
    read = traces.load(path)
    assert [(one.at, one.prompt_tokens, one.answer_tokens) for one in read] == [(0, 700, 2), (2, 1100, 4), (3, 600, 3)]
    first, other, third = (one.blocks for one in read)
    assert (len(first), len(other), len(third)) == (2, 3, 2)
    assert first[0] == third[0] != other[0]
    assert len({first[1], *other[:1], third[1]}) == 3


def test_figures_of_reality_are_those_of_the_client() -> None:
    figures = simulator.of_served([served(10.0, 5, 3), served(11.0, 5, 1)])
    assert figures["ttft_p50_ms"] == figures["ttft_p90_ms"] == 500.0
    assert figures["tokens_per_s"] == 4 / 2.5
    assert figures["itl_p50_ms"] == 500.0


def record(real: list[float], simulated: list[float]) -> Results:
    made = Results("2026-01-01", "python -m benchmarks", "abc", Machine("A CPU", 2, 8.0, "Linux", ()))
    made.titles[simulator.STEADY] = "steady"
    for name, values in ((simulator.REAL, real), (simulator.SIMULATED, simulated)):
        made.targets.append(Target(name, name, "1.0", "-", "-"))
        for number, value in enumerate(values, start=1):
            figures = {"ttft_p50_ms": 100.0, "ttft_p90_ms": value, "tokens_per_s": 50.0, "itl_p50_ms": 9.0}
            made.measurements.append(Measurement(simulator.SUITE, simulator.STEADY, name, number, figures))
    return made


@pytest.mark.parametrize(
    ("real", "simulated", "allowed", "holds"),
    [
        ([100.0, 100.0, 100.0], [119.0, 119.0, 90.0], 0.2, True),
        ([100.0, 100.0, 100.0], [79.0, 79.0, 79.0], 0.2, False),
        ([80.0, 100.0, 120.0], [104.0, 130.0, 156.0], 0.4, True),
        ([80.0, 100.0, 120.0], [120.0, 150.0, 180.0], 0.4, False),
    ],
)
def test_it_may_be_off_by_a_fifth_or_by_what_rounds_differ(
    real: list[float], simulated: list[float], allowed: float, holds: bool
) -> None:
    made = record(real, simulated)
    told = agreement.agreement(made, simulator.STEADY, "ttft_p90_ms")
    assert told.allowed == pytest.approx(allowed)
    assert told.holds is holds
    assert (agreement.worst(made, simulator.STEADY).median <= 1) is holds
    assert ("not within" in report.simulator(made)) is not holds
