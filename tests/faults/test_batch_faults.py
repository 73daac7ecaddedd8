"""FAULTS 14 and 15: batches whose processes are killed, at any point. Real processes."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from acceptance.files_server import files_server
from acceptance.process import Server, frozen, greeting, running_server, started
from faults.watched_batch import WatchedBatch

CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
options = {{ step_s = {step_s}, slots = {slots}, max_context = 30_000 }}
"""


def config(step_s: float, slots: int) -> str:
    return CONFIG.format(step_s=step_s, slots=slots)


def endure(server: Server, lines: int, kills: int, apart: int, within_s: float) -> str:
    """Run a batch whose worker is killed so often; how that went."""
    with closing(WatchedBatch(server, lines)) as batch:
        known: dict[int, bytes] = {}
        killed = batch.kill_often(kills, seed=14, apart=apart, known=known)
        batch.until_ended(within_s)
        again = batch.check(known, exact=True)
    assert killed == kills
    assert known
    return f"{killed} kills, {len(known)} of {lines} lines committed before the last, {again} runs more than lines"


@pytest.mark.fault(14, "the worker of a batch killed at random points, 5 times", "no line lost, none twice, none rerun")
def test_a_batch_whose_worker_is_killed_has_one_result_for_each_line(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    with files_server(tmp_path, config=config(0.02, 8)) as server:
        measured(endure(server, lines=400, kills=5, apart=50, within_s=60.0))


@pytest.mark.slow
@pytest.mark.fault(14, "the worker of 20,000 lines killed at 100 random points", "no line lost, none twice, none rerun")
def test_20_000_lines_outlive_100_kills(tmp_path: Path, measured: Callable[[str], None]) -> None:
    with files_server(tmp_path, config=config(0.01, 64)) as server:
        measured(endure(server, lines=20_000, kills=100, apart=200, within_s=300.0))


@pytest.mark.slow
@pytest.mark.fault(14, "2,000 lines on the real engine, worker or replica killed 10 times", "each committed once")
def test_2_000_lines_on_the_real_engine_outlive_10_kills(
    tmp_path: Path, smollm2_path: Path, test_models_dir: Path, measured: Callable[[str], None]
) -> None:
    (tmp_path / "models").symlink_to(test_models_dir)
    lines, kills = 2_000, 10
    with running_server(tmp_path) as server, closing(WatchedBatch(server, lines, "default")) as batch:
        known: dict[int, bytes] = {}
        killed = batch.kill_often(kills, seed=15, apart=150, known=known, replicas=0.3)
        batch.until_ended(600.0)
        batch.check(known, exact=False)
    assert killed == kills
    measured(f"{kills} kills, {len(known)} of {lines} lines committed before the last, none of them changed")


@pytest.mark.fault(15, "results written while the owner is frozen, then their writer killed", "recovered by length")
def test_results_that_were_written_and_not_committed_count_for_nothing(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(files_server(tmp_path, config=config(0.02, 8)))
        batch = stack.enter_context(closing(WatchedBatch(server, 400)))
        batch.until(lambda: batch.done() > 50)
        with frozen(server.process.pid):
            batch.until(batch.uncommitted_bytes)
            known = batch.committed()
            written = batch.uncommitted_bytes()
            batch.kill()
        batch.until_ended()
        again = batch.check(known, exact=True)
        measured(f"{len(known)} lines committed, {written} bytes beyond, {again} runs more than lines")


@pytest.mark.fault(14, "the whole server killed in the middle of a batch, and started again", "the batch goes on")
def test_a_batch_outlives_its_server(tmp_path: Path, measured: Callable[[str], None]) -> None:
    file = tmp_path / "pileus.toml"
    file.write_text(config(0.02, 8))
    log = tmp_path / "first.log"
    with ExitStack() as stack:
        stderr = stack.enter_context(log.open("w"))
        process = stack.enter_context(started(tmp_path, "--config", str(file), stderr=stderr))
        batch = WatchedBatch(Server(process, tmp_path, greeting(process, log)), 400)
        stack.callback(batch.close)
        batch.until(lambda: batch.done() > 50)
        process.kill()
        process.wait()
        known = batch.committed()
        batch.move(stack.enter_context(files_server(tmp_path, config=config(0.02, 8))))
        batch.until_ended()
        batch.check(known, exact=False)
        measured(f"{len(known)} of 400 lines were committed when it was killed")
