import asyncio
from pathlib import Path

import pytest

from pileus.core.errors import ConfigError, ModelNotFound
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo
from replicas import RecordingSink, ask, hosted

SMALL = DeploymentInfo(name="small", model="m", engine="fake", aliases=("default", "gpt"))
LARGE = DeploymentInfo(name="large", model="m", engine="fake")


@pytest.fixture
def directory() -> ServingDirectory:
    return ServingDirectory([SMALL, LARGE], list)


def test_a_deployment_is_found_by_its_name_and_by_its_aliases(directory: ServingDirectory) -> None:
    assert {directory.resolve(name).name for name in ("small", "default", "gpt")} == {"small"}
    assert directory.resolve("large") is LARGE
    assert directory.deployments() == ("small", "large")


def test_an_unknown_name_is_refused_with_the_names_that_there_are(directory: ServingDirectory) -> None:
    with pytest.raises(ModelNotFound, match="'medium' does not exist; there is: small, default, gpt, large") as refusal:
        directory.resolve("medium")
    assert refusal.value.param == "model"


@pytest.mark.parametrize("aliases", [("small",), ("gpt",)])
def test_one_name_for_two_deployments_is_refused(aliases: tuple[str, ...]) -> None:
    other = DeploymentInfo(name="other", model="m", engine="fake", aliases=aliases)
    with pytest.raises(ConfigError, match=aliases[0]):
        ServingDirectory([SMALL, other], list)


def test_the_same_deployment_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="small"):
        ServingDirectory([SMALL, SMALL], list)


async def test_subscribers_hear_once_per_turn_however_much_changed(directory: ServingDirectory, tmp_path: Path) -> None:
    heard: list[str] = []
    directory.subscribe("small", lambda _: heard.append("small"))
    directory.subscribe("large", lambda _: heard.append("large"))
    with hosted(tmp_path) as host:
        link = await host.link()
        directory.add("small", link)
        assert directory.ready("small") == (link,)
        for _ in range(5):
            link.on_change[0]()
        await asyncio.sleep(0)
        assert heard == ["small"]


async def test_a_replica_that_drains_is_not_ready_any_more(directory: ServingDirectory, tmp_path: Path) -> None:
    with hosted(tmp_path, {"step_s": 0.002}) as host:
        link = await host.link()
        directory.add("small", link)
        sink = RecordingSink()
        link.submit(ask(4000), sink)
        host.replica.drain()
        await link.until(lambda: not directory.ready("small"))
        assert not link.lost.done()


async def test_a_replica_whose_connection_is_lost_is_not_ready_any_more(
    directory: ServingDirectory, tmp_path: Path
) -> None:
    with hosted(tmp_path) as host:
        link = await host.link()
        directory.add("small", link)
        heard: list[bool] = []
        directory.subscribe("small", lambda news: heard.extend(news.values()))
        link.close("the test says so")
        assert directory.ready("small") == ()
        assert heard == [True, False]  # at once, before its requests look for another


async def test_who_subscribes_late_hears_at_once_of_what_is_ready(directory: ServingDirectory, tmp_path: Path) -> None:
    heard: list[dict[object, bool]] = []
    directory.subscribe("small", lambda news: heard.append(dict(news)))
    assert heard == []
    with hosted(tmp_path) as host:
        link = await host.link()
        directory.add("small", link)
        heard.clear()
        directory.subscribe("small", lambda news: heard.append(dict(news)))
        assert heard == [{link: True}]
