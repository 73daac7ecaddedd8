"""Runs of different workloads become one record, and nothing else does."""

import pytest
from msgspec.structs import replace

from benchmarks.figures import Figures
from benchmarks.results import Machine, Measurement, Results, join

MACHINE = Machine(processor="p", cores=2, memory_gib=4.0, system="s", instructions=())


def run(suite: str, date: str) -> Results:
    measured = Measurement(suite=suite, workload="w", target="t", round=1, figures=Figures())
    return Results(date=date, command="c", commit="abc", machine=MACHINE, titles={suite: "t"}, measurements=[measured])


def test_runs_of_different_workloads_become_one_record() -> None:
    joined = join([run("engines", "monday"), run("gateway", "tuesday")])
    assert [measurement.suite for measurement in joined.measurements] == ["engines", "gateway"]
    assert (joined.date, joined.command, joined.commit) == ("monday; tuesday", "c", "abc")
    assert joined.titles == {"engines": "t", "gateway": "t"}


def test_a_workload_measured_twice_or_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="same workload"):
        join([run("engines", "monday"), run("engines", "tuesday")])
    with pytest.raises(ValueError, match="different machines"):
        join([run("engines", "monday"), replace(run("gateway", "tuesday"), machine=replace(MACHINE, cores=8))])
