"""`pileus simulate` and `pileus calibrate`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unit.cli.conftest import Pileus

LINE = '{{"timestamp": {at}, "input_length": 1500, "output_length": 20, "hash_ids": [{family}, {family}1, {number}]}}\n'


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(LINE.format(at=n * 300, family=1 + n % 3, number=100 + n) for n in range(40)))
    return file


def test_policies_stand_side_by_side(pileus: Pileus, trace: Path) -> None:
    ran = pileus("simulate", "--trace", str(trace), "-p", "cost,round_robin", "-r", "3")
    assert ran.status == 0, ran.err
    rows = [line.split()[0] for line in ran.out.splitlines() if line]
    assert rows[0] == "POLICY"
    assert rows[2:] == ["cost", "round_robin", "cost:", "round_robin:"]
    assert "40 finished" in ran.out


def test_json_has_every_figure_of_every_policy(pileus: Pileus, trace: Path) -> None:
    ours, theirs = pileus("simulate", "--trace", str(trace), "-p", "cost,least_loaded", "-r", "3", "--json").json()
    assert (ours["policy"], theirs["policy"]) == ("cost", "least_loaded")
    assert ours["endings"]["finished"] == 40
    assert ours["hit_rate"] > theirs["hit_rate"]
    assert {"p50", "p90", "p99"} <= ours["ttft_s"].keys()


def test_plans_change_what_happens(pileus: Pileus, trace: Path) -> None:
    plan = ("--load", "4x@2", "--kill", "2@3+5", "--add-tenant", "bob:2:batch", "--share", "bob=2", "--tenants", "3")
    [report] = pileus("simulate", "--trace", str(trace), "--requests", "80", *plan, "--json").json()
    assert report["requests"] > 80
    assert "bob" in [tenant["tenant"] for tenant in report["tenants"]]
    assert report["resumed"] > 0


def test_the_result_depends_on_the_seed_and_on_nothing_else(trace: Path) -> None:
    def simulated(hash_seed: str, seed: str) -> list[Any]:
        command = [sys.executable, "-m", "pileus", "simulate", "--trace", str(trace), "-r", "30", "--json"]
        done = subprocess.run(
            [*command, "--tenants", "5", "--seed", seed],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        )
        return [report | {"seed": None} for report in json.loads(done.stdout)]

    assert simulated("1", "3") == simulated("2", "3")
    assert simulated("1", "3") != simulated("1", "4")


def test_a_plot_is_drawn_into_its_file(pileus: Pileus, trace: Path, tmp_path: Path) -> None:
    assert pileus("simulate", "--trace", str(trace), "--plot", str(tmp_path / "runs.svg")).status == 0
    assert (tmp_path / "runs.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--policy", "best", "'best' is none"),
        ("--load", "twice", "2x@60"),
        ("--kill", "2", "2@300"),
        ("--add-tenant", "bob", "bob:0.5"),
        ("--share", "bob", "bob=2"),
        ("--format", "pcap", "pcap"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_option(
    pileus: Pileus, trace: Path, option: str, value: str, told: str
) -> None:
    ran = pileus("simulate", "--trace", str(trace), option, value)
    assert ran.status == 2
    assert option in ran.err
    assert told in ran.err


def test_a_bad_line_is_told_with_its_number(pileus: Pileus, trace: Path) -> None:
    trace.write_text(trace.read_text() + "{}\n")
    ran = pileus("simulate", "--trace", str(trace))
    assert ran.status == 1
    assert "line 41" in ran.err


def test_a_deployment_is_measured_and_simulated(pileus: Pileus, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "pileus.toml").write_text(
        '[[deployment]]\nname = "small"\nmodel = "fake"\nengine = "fake"\noptions = { slots = 2, step_s = 0.001 }\n'
    )
    ran = pileus("calibrate", "small", "engine.json")
    assert ran.status == 0, ran.err
    assert json.loads((tmp_path / "engine.json").read_text())["slots"] == 2
    [report] = pileus("simulate", "--trace", str(trace), "--engine", "engine.json", "--json").json()
    assert report["endings"]["finished"] == 40
    assert pileus("calibrate", "large", "engine.json").status == 78


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(pileus: Pileus) -> None:
    ran = pileus("calibrate", "small", "elsewhere/engine.json")
    assert ran.status == 2
    assert "no folder elsewhere" in ran.err
