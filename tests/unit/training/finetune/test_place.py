"""Where what is learnt can be served."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from pileus.bootstrap.engines import CHOICE
from pileus.core.errors import InvalidRequest, ModelNotFound, NotServable, OperatorError
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo
from pileus.training.finetune.place import Place, Places, prospect
from pileus.training.finetune.records import FineTuneSpec, Source, Wishes

FULL = Wishes(adaptation="full")


class Bases:
    """Meets `training.finetune.place.Bases`."""

    def check_tunable(self, name: str) -> None:
        if name not in ("base", "rare"):
            raise OperatorError(f"{name} cannot learn")


def places(ranks: Mapping[str, int]) -> Places:
    """Deployments of the model `base`, by the largest rank that they take; and one of a model that cannot learn."""
    return Places(directory_of(ranks), Bases(), lambda name: ranks[name])


def directory_of(names: Iterable[str]) -> ServingDirectory:
    infos = [DeploymentInfo(name=name, model="base", engine="x", aliases=(f"{name}-too",)) for name in names]
    return ServingDirectory([*infos, DeploymentInfo(name="texts", model="encoder", engine="x")], list)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("one", Place("one", "base")),
        ("two-too", Place("two", "base")),
        ("base", Place("two", "base")),  # which takes the larger ones
        ("rare", Place("", "rare")),  # nobody serves it yet
    ],
)
async def test_a_model_by_its_own_name_learns_for_the_deployment_that_can_serve_it(model: str, expected: Place) -> None:
    assert await places({"none": 0, "one": 16, "two": 64}).find(model, Wishes()) == expected


@pytest.mark.parametrize(
    ("ranks", "model", "advice"),
    [
        ({"mute": 0}, "mute", "have base deployed with adapters"),
        ({"mute": 0}, "base", "have base deployed with adapters"),
        ({"mute": 0, "small": 8}, "mute", "have base deployed with adapters"),
        ({"mute": 0, "small": 8, "large": 16}, "mute", "name large, which serves this model with adapters"),
    ],
)
async def test_what_nobody_could_use_is_refused_with_what_to_do(ranks: dict[str, int], model: str, advice: str) -> None:
    with pytest.raises(NotServable, match="The deployment mute serves no adapters") as refused:
        await places(ranks).find(model, Wishes())
    assert (refused.value.param, refused.value.code) == ("model", "not_servable")
    assert advice in refused.value.message
    assert await places(ranks).find(model, FULL) == Place("" if model == "base" else model, "base")


async def test_a_rank_that_is_too_large_is_refused_by_its_field() -> None:
    for model in ("small", "base"):
        with pytest.raises(InvalidRequest, match="up to rank 8") as refused:
            await places({"small": 8}).find(model, Wishes())
        assert refused.value.param == "rank"
        assert (await places({"small": 8}).find(model, Wishes(rank=8))).deployment == "small"


async def test_a_model_that_cannot_learn_is_refused_and_one_that_is_not_there_not_found() -> None:
    with pytest.raises(InvalidRequest, match="texts cannot be fine-tuned: encoder cannot learn"):
        await places({}).find("texts", FULL)
    with pytest.raises(ModelNotFound):
        await places({}).find("nothing", Wishes())


class Undeploying(Bases):
    """Has a deployment gone while its base is looked at for the first time."""

    def __init__(self, names: Iterable[str], gone: str) -> None:
        self.directory = directory_of(names)
        self._loop = asyncio.get_running_loop()
        self._gone = [gone]

    def check_tunable(self, name: str) -> None:
        if self._gone:
            asyncio.run_coroutine_threadsafe(self._drop(self._gone.pop()), self._loop).result()
        super().check_tunable(name)

    async def _drop(self, name: str) -> None:
        self.directory.drop(name)


@pytest.mark.parametrize("wishes", [Wishes(), FULL], ids=["lora", "full"])
@pytest.mark.parametrize("names", [("one",), ("one", "two")], ids=["the only one", "one of two"])
async def test_a_deployment_that_goes_meanwhile_is_not_found(names: tuple[str, ...], wishes: Wishes) -> None:
    bases = Undeploying(names, "one")
    with pytest.raises(ModelNotFound, match="'one' does not exist"):
        await Places(bases.directory, bases, lambda _: 64).find("one", wishes)


async def test_a_model_whose_deployment_goes_meanwhile_learns_for_another_one() -> None:
    bases = Undeploying(("one", "two"), "one")
    assert await Places(bases.directory, bases, lambda _: 64).find("base", Wishes()) == Place("two", "base")
    bases = Undeploying(("base",), "base")  # a deployment by the name of its model
    assert await Places(bases.directory, bases, lambda _: 64).find("base", Wishes()) == Place("", "base")


@pytest.mark.parametrize(
    ("place", "wishes", "words"),
    [
        (Place("chat", "base"), Wishes(), "is served as chat:x once"),
        (
            Place("", "base"),
            Wishes(),
            "`pileus deploy NAME base` and then `pileus adapters add NAME x base:x --tenant 'the desk'`",
        ),
        (Place("chat", "base"), FULL, "`pileus deploy NAME chat:x` serves it"),
    ],
)
def test_people_are_told_how_the_result_is_served(place: Place, wishes: Wishes, words: str) -> None:
    spec = FineTuneSpec(
        model="m",
        deployment=place.deployment,
        base=place.base,
        adapter="x",
        output=f"{place.deployment or place.base}:x",
        training=Source("file-1", "blob", 1),
        wishes=wishes,
    )
    assert words in prospect(spec, "the desk")


@pytest.mark.parametrize(
    ("engine", "options", "rank"),
    [
        ("native", {}, 64),
        ("native", {"adapter_rank": 8}, 8),
        ("native", {"adapters": 0}, 0),
        ("encoder", {}, 0),
        ("fake_encoder", {}, 0),
        ("fake", {"adapters": 0}, 0),
    ],
)
def test_an_engine_that_knows_no_adapters_takes_none(engine: str, options: dict[str, Any], rank: int) -> None:
    assert CHOICE.served_rank(engine, options) == rank
