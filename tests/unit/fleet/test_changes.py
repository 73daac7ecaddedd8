"""What operators do to a fleet while it serves: real processes around the fake engine."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from changing_fleet import SLEEPY, Streams, deployment, running, states, text_of, until
from pileus.core.errors import ConfigError, ModelNotFound, NotFound, OperatorError, Overloaded
from pileus.fleet.records import Deployment, DeploymentInfo
from pileus.fleet.timeline import EventKind
from pileus.scheduling.scaling import Cause
from replicas import PATIENCE_S, RecordingSink, ask

SLOW = {"step_s": 0.005}


async def test_more_replicas_come_and_fewer_go_without_harm_to_what_runs(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(options=SLOW)) as fleet:
        stages: list[tuple[str, int, int]] = []
        await fleet.scale("fake", 3, progress=lambda *stage: stages.append(stage))
        assert [state for _, state in states(fleet)] == ["ready"] * 3
        assert stages[0] == ("scaling", 0, 2)
        assert stages[-1] == ("scaling", 2, 2)
        sinks = [RecordingSink() for _ in range(3)]
        for link, sink in zip(fleet.directory.ready("fake"), sinks, strict=True):
            link.submit(ask(200), sink)
        await fleet.scale("fake", 1)
        assert len(states(fleet)) == 1
        for sink in sinks:
            await sink.end()
        assert [(len(sink.tokens), sink.losses) for sink in sinks] == [(200, [])] * 3


async def test_those_with_the_fewest_requests_go_first(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=2, options=SLOW)) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        busy = fleet.directory.ready("fake")[0]
        busy.submit(ask(200), RecordingSink())
        await fleet.scale("fake", 1)
        assert states(fleet) == [(busy.replica, "ready")]


async def test_a_restart_replaces_every_replica_and_never_has_fewer_ready(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=2)) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        counts: list[int] = []
        fleet.directory.subscribe("fake", lambda _: counts.append(len(fleet.directory.ready("fake"))))
        pids = {replica.pid for replica in fleet.status()[0].replicas}
        await fleet.restart("fake")
        assert states(fleet) == [("fake/2", "ready"), ("fake/3", "ready")]
        assert not pids & {replica.pid for replica in fleet.status()[0].replicas}
        assert min(counts) == 2


async def test_acts_on_one_deployment_come_one_after_the_other(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        await asyncio.gather(fleet.restart("fake"), fleet.scale("fake", 2), fleet.restart("fake"))
        assert [state for _, state in states(fleet)] == ["ready", "ready"]
        assert min(int(name.partition("/")[2]) for name, _ in states(fleet)) >= 3


async def test_a_new_version_that_does_not_start_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=2)) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
        before = states(fleet)
        with pytest.raises(OperatorError, match=r"fake does not start: weights\.bin: wrong sha256"):
            await fleet.deploy(deployment(replicas=2, refuse="weights.bin: wrong sha256"))
        await until(fleet, lambda: len(states(fleet)) == 2)
        assert states(fleet) == before
        assert fleet.deployment("fake") == deployment(replicas=2)
        await fleet.restart("fake")


async def test_a_changed_deployment_gets_replicas_of_the_new_kind_and_in_the_new_number(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(options={"slots": 2})) as fleet:
        changed = deployment(replicas=2, options={"slots": 3})
        await fleet.deploy(changed)
        assert [link.capabilities.slots for link in fleet.directory.ready("fake")] == [3, 3]


async def test_a_deployment_comes_and_goes_with_its_names(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        heard: list[str] = []
        fleet.on_opened.append(lambda each: heard.append(f"+{each.info.name}"))
        fleet.on_closed.append(lambda name: heard.append(f"-{name}"))
        info = DeploymentInfo(name="new", model="fake", engine="fake", aliases=("fresh",))
        await fleet.deploy(Deployment(info=info, spec={}))
        assert fleet.directory.resolve("fresh").name == "new"
        assert len(fleet.directory.ready("new")) == 1
        with pytest.raises(ConfigError, match="'fresh'"):
            await fleet.deploy(Deployment(info=DeploymentInfo(name="fresh", model="fake", engine="fake"), spec={}))
        await fleet.undeploy("new")
        assert heard == ["+new", "-new"]
        assert fleet.directory.deployments() == ("fake",)
        with pytest.raises(ModelNotFound):
            fleet.directory.resolve("fresh")
        with pytest.raises(NotFound, match="no deployment 'new'; there is: fake"):
            await fleet.restart("new")


async def test_what_runs_is_finished_before_a_deployment_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(), deployment("new", options=SLOW)) as fleet:
        sink = RecordingSink()
        fleet.directory.ready("new")[0].submit(ask(100), sink)
        await sink.until_tokens(1)
        await fleet.undeploy("new")
        assert (len(sink.tokens), sink.losses) == (100, [])


async def test_a_sleeping_deployment_wakes_for_a_request_and_holds_it_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=0, policy=SLEEPY)) as fleet:
        streams = Streams(fleet, max_wait_s=0.001)  # which must not count while it starts
        assert states(fleet) == []
        starting_s = fleet.directory.starting_s("fake")
        assert starting_s is not None
        assert starting_s >= 1
        texts = await asyncio.gather(*(text_of(streams.open(8)) for _ in range(20)))
        assert len(set(texts)) == 1
        assert streams.endings == ["length"] * 20
        assert fleet.directory.starting_s("fake") is None


async def test_who_waits_for_a_start_that_fails_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=0, policy=SLEEPY, refuse="no weights")) as fleet:
        streams = Streams(fleet)
        generation = streams.open(8)
        with pytest.raises(Overloaded, match="none of its replicas starts"):
            await asyncio.wait_for(generation.next(), PATIENCE_S)
        assert streams.endings == ["overloaded"]


async def test_a_sleeper_that_is_not_asked_stays_asleep_through_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=0, policy=SLEEPY)) as fleet:
        await fleet.restart("fake")
        assert states(fleet) == []


async def test_the_last_lines_of_a_replica_outlive_it(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        [pid] = [replica.pid for replica in fleet.status()[0].replicas]
        assert pid
        os.kill(pid, signal.SIGTERM)
        await until(fleet, lambda: fleet.status()[0].replicas[0].epoch == 2 and fleet.directory.ready("fake"))
        assert list(fleet.tails("fake")) == ["fake/0"]
        with pytest.raises(NotFound):
            fleet.tails("none")


async def test_what_happens_to_a_deployment_is_on_its_time_line(tmp_path: Path) -> None:
    async with running(tmp_path, deployment()) as fleet:
        await fleet.scale("fake", 2, by="boss")
        victim = fleet.status()[0].replicas[1]
        assert victim.pid
        os.kill(victim.pid, signal.SIGKILL)
        await until(fleet, lambda: fleet.status()[0].replicas[1].restarts and len(fleet.directory.ready("fake")) == 2)
        await fleet.restart("fake", by="boss")
        fleet.adjust("fake", 1, Cause.CALM)
        await fleet.undeploy("fake", by="boss")
        told = [(event.kind.value, event.replica or event.by) for event in fleet.timeline.events(deployment="fake")]
        scaled = [event for event in fleet.timeline.events() if event.kind is EventKind.SCALED]
    assert told[:8] == [
        ("replica_ready", "fake/0"),
        ("scaled", "boss"),
        ("replica_ready", "fake/1"),
        ("replica_crashed", "fake/1"),
        ("replica_restarted", "fake/1"),
        ("replica_ready", "fake/1"),
        ("roll_begun", "boss"),
        ("replica_ready", "fake/2"),
    ]
    assert told.index(("replica_drained", "fake/0")) < told.index(("replica_ready", "fake/3"))
    assert told.index(("replica_drained", "fake/1")) < told.index(("roll_ended", "boss"))
    assert told[-1] == ("undeployed", "boss")
    assert [(each.before, each.after, each.cause) for each in scaled] == [(1, 2, Cause.HAND), (2, 1, Cause.CALM)]


async def test_a_deployment_that_is_woken_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(replicas=0, policy=SLEEPY)) as fleet:
        await text_of(Streams(fleet).open(8))
        scaled, ready = fleet.timeline.events()
        assert (scaled.kind, scaled.before, scaled.after, scaled.cause) == (EventKind.SCALED, 0, 1, Cause.WAKE)
        assert ready.kind is EventKind.REPLICA_READY
        assert ready.took_s


async def test_a_hung_replica_is_told_apart_from_one_that_died(tmp_path: Path) -> None:
    async with running(tmp_path, deployment(options={"faults": [{"kind": "hang", "after_tokens": 20}]})) as fleet:
        sink = RecordingSink()
        fleet.directory.ready("fake")[0].submit(ask(100), sink)
        await sink.end()
        await until(fleet, lambda: fleet.directory.ready("fake"))
        [hung] = [event for event in fleet.timeline.events() if event.kind is EventKind.REPLICA_HUNG]
        assert "its step has taken" in hung.reason
        assert hung.reason.endswith("it was killed")
