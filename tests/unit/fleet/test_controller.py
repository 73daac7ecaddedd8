"""The fleet with real processes around the fake engine."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from changing_fleet import deployment, until
from pileus.core.clock import SystemClock
from pileus.core.errors import OperatorError
from pileus.fleet.backends.local import LocalStarter
from pileus.fleet.controller import Fleet
from pileus.fleet.records import Deployment, ReplicaStatus
from replicas import PATIENCE_S, RecordingSink, ask

TESTS = Path(__file__).parents[2]


@asynccontextmanager
async def running(folder: Path, *deployments: Deployment) -> AsyncIterator[Fleet]:
    starter = LocalStarter((sys.executable, "-m", "fake_worker"), {**os.environ, "PYTHONPATH": str(TESTS)})
    fleet = Fleet(deployments, starter, run_dir=folder / "run", clock=SystemClock())
    fleet.start()
    try:
        yield fleet
    finally:
        await fleet.drain_and_stop(PATIENCE_S)


def replicas(fleet: Fleet) -> tuple[ReplicaStatus, ...]:
    return fleet.status()[0].replicas


async def test_replicas_become_ready_by_a_real_generation_and_serve(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=2)) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        assert [replica.state for replica in replicas(fleet)] == ["ready", "ready"]
        for link in fleet.directory.ready("fake"):
            sink = RecordingSink()
            link.submit(ask(), sink)
            await sink.end()
            assert len(sink.tokens) == 8
        pids = [replica.pid for replica in replicas(fleet)]
    assert {replica.state for replica in replicas(fleet)} == {"stopped"}
    for pid in pids:
        assert pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_killed_replica_is_told_at_once_and_comes_back_with_the_next_epoch(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=2, options={"step_s": 0.002})) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        links = {link.replica: link for link in fleet.directory.ready("fake")}
        sinks = {name: RecordingSink() for name in links}
        for name, link in links.items():
            link.submit(ask(500), sinks[name])
        victim, other = replicas(fleet)
        assert victim.pid
        os.kill(victim.pid, signal.SIGKILL)
        await sinks[victim.id].end()
        assert len(sinks[victim.id].losses) == 1
        assert [link.replica for link in fleet.directory.ready("fake")] == [other.id]
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        back = replicas(fleet)[0]
        assert (back.epoch, back.restarts, back.last_error) == (2, 1, "it was killed by SIGKILL")
        await sinks[other.id].end()
        assert len(sinks[other.id].tokens) == 500


async def test_a_stopped_process_is_given_up_and_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        [link] = fleet.directory.ready("fake")
        [before] = replicas(fleet)
        assert before.pid
        began = monotonic()
        os.kill(before.pid, signal.SIGSTOP)
        sink = RecordingSink()
        link.submit(ask(), sink)
        await sink.end()
        assert "its step has taken" in sink.losses[0]
        assert monotonic() - began < 5 + 2  # as long as it may take on a busy machine
        await until(fleet, lambda: fleet.directory.ready("fake"))
        assert replicas(fleet)[0].epoch == 2


async def test_a_step_that_never_ends_is_a_hang_though_the_process_speaks(tmp_path: Path) -> None:
    hang = {"kind": "hang", "after_tokens": 20}
    async with running(tmp_path, deployment(options={"faults": [hang]}, grace_s=0.1)) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        sink = RecordingSink()
        fleet.directory.ready("fake")[0].submit(ask(100), sink)
        await sink.end()
        assert "its step has taken" in sink.losses[0]
        await until(fleet, lambda: fleet.directory.ready("fake"))


async def test_an_engine_that_breaks_takes_its_process_with_it(tmp_path: Path) -> None:
    fault = {"kind": "break", "after_tokens": 20}
    async with running(tmp_path, deployment(options={"faults": [fault]})) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        sink = RecordingSink()
        fleet.directory.ready("fake")[0].submit(ask(100), sink)
        await sink.end()
        assert len(sink.losses) == 1
        await until(fleet, lambda: fleet.directory.ready("fake"))
        assert "exit status 1" in replicas(fleet)[0].last_error
        assert "EngineBroken" in replicas(fleet)[0].last_error


async def test_a_refusal_reaches_whoever_waits_and_the_status(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(refuse="weights.bin: wrong sha256")) as fleet:
        with pytest.raises(OperatorError, match=r"fake does not start: weights\.bin: wrong sha256"):
            await fleet.wait_ready("fake", PATIENCE_S)
        [replica] = replicas(fleet)
        assert (replica.state, replica.restarts) == ("crash-loop", 0)


async def test_a_crash_loop_is_told_with_the_last_lines_of_the_process(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(crash="no such instruction")) as fleet:
        with pytest.raises(OperatorError, match=r"exit status 3.*no such instruction"):
            await fleet.wait_ready("fake", 60)
        assert replicas(fleet)[0].state == "crash-loop"


async def test_who_waits_too_long_is_told_why_it_is_not_ready(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        with pytest.raises(OperatorError, match="not ready within 0 s: it is still starting"):
            await fleet.wait_ready("fake", 0.001)


async def test_a_lost_connection_is_made_anew_without_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        [first] = fleet.directory.ready("fake")
        first.close("the connection breaks")
        await until(fleet, lambda: fleet.directory.ready("fake"))
        [second] = fleet.directory.ready("fake")
        assert second is not first
        assert replicas(fleet)[0].restarts == 0
        sink = RecordingSink()
        second.submit(ask(), sink)
        await sink.end()
        assert len(sink.tokens) == 8


async def test_drain_lets_requests_finish(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(options={"step_s": 0.002})) as fleet:
        await fleet.wait_ready("fake", PATIENCE_S)
        sink = RecordingSink()
        fleet.directory.ready("fake")[0].submit(ask(200), sink)
        await sink.until_tokens(1)
    assert (len(sink.tokens), sink.losses) == (200, [])


async def test_workers_die_with_a_server_that_is_killed(tmp_path: Path) -> None:
    script = TESTS / "fleet_process.py"
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "run"), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout
    pid = int(await asyncio.wait_for(server.stdout.readline(), PATIENCE_S))
    worker = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(worker, gone.set)
    server.kill()
    await asyncio.wait_for(gone.wait(), 5)
    asyncio.get_running_loop().remove_reader(worker)
    os.close(worker)
    await server.communicate()


async def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(OperatorError, match="chmod 700"):
        async with running(tmp_path, deployment()):
            pass


async def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="choose a shorter folder"):
        async with running(tmp_path / ("x" * 100), deployment()):
            pass
