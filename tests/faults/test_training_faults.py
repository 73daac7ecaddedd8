"""FAULTS 26: a run that trains a model is killed, after any step and anywhere in the writing of a checkpoint."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.training import checkpoint  # stands on PyTorch
from pileus.training.spec import Train
from unit.training.corpus import spec_of

_RUN = Path(__file__).with_name("training_run.py")
_STEPS = 8
_TOLERANCE = 1e-6
_WRITER = """
import os, sys
from pathlib import Path
import torch
from pileus.training import checkpoint

step = int(sys.argv[2])
while True:
    step += 1
    checkpoint.save(Path(sys.argv[1]), step, {"step": step, "weights": torch.full((50_000,), float(step))})
    os.write(1, b"%d\\n" % step)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Train:
    folder = tmp_path_factory.mktemp("data")
    changes: dict[str, Any] = {"steps": _STEPS, "dropout": 0.1, "ema": 0.9, "evaluate_every": 3, "checkpoint_every": 2}
    return spec_of(folder, "bert", seed=11, **changes)


@pytest.fixture(scope="module")
def whole(spec: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How a run ends that nobody kills."""
    return _ended(spec, tmp_path_factory.mktemp("whole"))


def test_26_a_run_that_is_killed_after_a_step_ends_as_one_that_is_not(
    spec: Train, whole: dict[str, Any], tmp_path: Path, measured: Callable[[str], None]
) -> None:
    for told in ({"step": 5}, {"kept": 6}):
        _killed_at(spec, tmp_path, told)
    ended = _ended(spec, tmp_path)
    measured(f"final loss {ended['loss']:.9f}, not killed {whole['loss']:.9f}")
    _same(ended, whole)


@pytest.mark.slow
def test_26_a_run_that_is_killed_after_every_step_ends_as_one_that_is_not(
    spec: Train, whole: dict[str, Any], tmp_path: Path, measured: Callable[[str], None]
) -> None:
    for step in range(1, _STEPS + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        _killed_at(spec, folder, {"step": step})
        _same(_ended(spec, folder), whole)
    measured(f"{_STEPS} kills, each final loss within {_TOLERANCE}")


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_26_a_checkpoint_whose_writing_is_killed_is_whole_or_absent(
    tmp_path: Path, rounds: int, measured: Callable[[str], None]
) -> None:
    """Each child writes checkpoints without end and is killed after a random time."""
    drawn, seen = random.Random(26), 0
    for _ in range(rounds):
        seen = max(seen, _killed_while_writing(tmp_path, seen, drawn.uniform(0.0, 0.03)))
        found = checkpoint.checkpoints(tmp_path)
        assert found
        newest = checkpoint.load(found[-1])
        assert newest["step"] == checkpoint.step_of(found[-1]) >= seen
        assert bool((newest["weights"] == newest["step"]).all())
    measured(f"{rounds} kills while checkpoints were written, up to step {checkpoint.step_of(found[-1])}")


def _killed_while_writing(folder: Path, first: int, after_s: float) -> int:
    """The last checkpoint that was said to be durable."""
    command = [sys.executable, "-c", _WRITER, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()  # the first one is there
        _wait_until(after_s)
        process.kill()
        said += process.stdout.read()
    return int(said.split(b"\n")[-2])


def _wait_until(after_s: float) -> None:
    """The moment of the kill is what is drawn here, and nothing waits for it."""
    import time

    time.sleep(after_s)


def _killed_at(spec: Train, folder: Path, wanted: dict[str, int]) -> None:
    """Run until it tells that, and kill it there."""
    with _running(spec, folder, "tell") as process:
        assert process.stdin is not None
        for told in _lines(process):
            if told.items() >= wanted.items():
                process.kill()
                break
            process.stdin.write(b"\n")
            process.stdin.flush()
        else:
            pytest.fail(f"it never told {wanted}")


def _ended(spec: Train, folder: Path) -> dict[str, Any]:
    with _running(spec, folder) as process:
        return list(_lines(process))[-1]


def _running(spec: Train, folder: Path, *flags: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(_RUN), str(folder), msgspec.json.encode(spec).decode(), *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    return map(json.loads, process.stdout)


def _same(ended: dict[str, Any], whole: dict[str, Any]) -> None:
    assert ended["step"] == whole["step"] == _STEPS
    assert ended["loss"] == pytest.approx(whole["loss"], abs=_TOLERANCE)
    assert ended["validation_loss"] == pytest.approx(whole["validation_loss"], abs=_TOLERANCE)
