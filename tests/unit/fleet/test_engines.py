"""Which engine runs a model, with engines that there are only here."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from pileus.config.settings import Deployment
from pileus.core.errors import InvalidRequest, OperatorError
from pileus.core.ports import EngineDriver
from pileus.fleet.engines import Engines
from pileus.models.artefact import Kind
from pileus.models.catalogue import Catalogue


class Options(BaseModel):
    adapters: int = 2
    adapter_rank: int = 16


class NoOptions(BaseModel):
    pass


DRIVERS = {
    "talk": SimpleNamespace(needs_model=True, options=Options),
    "read": SimpleNamespace(needs_model=True, options=NoOptions),
    "toy": SimpleNamespace(needs_model=False, options=NoOptions),
}
ENGINES = Engines(
    DRIVERS,
    lambda name: cast(EngineDriver, DRIVERS[name]),
    encoders={"read"},
    of_kind={Kind.GENERATOR: "talk", Kind.ENCODER: "read"},
    of_fake={"doll": "toy"},
)


class Shelf:
    """Knows one model."""

    def show(self, name: str) -> Any:
        if name != "poet":
            raise OperatorError(f"there is no model {name!r}")
        return SimpleNamespace(kind=Kind.GENERATOR)


SHELF = cast(Catalogue, Shelf())


def wanted(model: str = "poet", **more: Any) -> Deployment:
    return Deployment(name="x", model=model, **more)


@pytest.mark.parametrize(
    ("model", "kind", "engine"),
    [("poet", Kind.GENERATOR, "talk"), ("mole", Kind.ENCODER, "read"), ("doll", None, "toy")],
)
def test_it_is_that_of_the_models_kind_or_the_one_that_was_named(model: str, kind: Kind | None, engine: str) -> None:
    assert ENGINES.with_engine(wanted(model), kind).engine == engine
    assert ENGINES.with_engine(wanted(model, engine=engine), kind).engine == engine


@pytest.mark.parametrize(
    ("wish", "kind", "param", "words"),
    [
        ({"engine": "tolk"}, Kind.GENERATOR, "engine", "did you mean `talk`"),
        ({"engine": "read"}, Kind.GENERATOR, "engine", "is a model that generates text: name talk"),
        ({"engine": "talk"}, Kind.ENCODER, "engine", "is an encoder: name read"),
        ({"model": "doll", "engine": "talk"}, None, "engine", "is a fake model, for tests: name toy"),
        ({"long_texts": "segments"}, Kind.GENERATOR, "long_texts", "poet is none"),
        ({}, Kind.ADAPTER, "model", "deploy its base"),
    ],
)
def test_what_cannot_be_is_refused_by_the_field_at_fault(
    wish: dict[str, Any], kind: Kind | None, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refusal:
        ENGINES.with_engine(wanted(**wish), kind)
    assert refusal.value.param == param


def test_the_kind_is_the_catalogues_and_a_fake_model_has_none() -> None:
    assert ENGINES.kind_of(SHELF, "poet") is Kind.GENERATOR
    assert ENGINES.kind_of(SHELF, "doll") is None
    with pytest.raises(InvalidRequest, match="there is no model 'none'") as refusal:
        ENGINES.kind_of(SHELF, "none")
    assert refusal.value.param == "model"


def test_of_a_model_that_is_not_here_yet_the_engines_name_is_checked() -> None:
    assert ENGINES.foreseen(wanted(), SHELF).engine == "talk"
    assert ENGINES.foreseen(wanted("none", engine="read"), SHELF).engine == "read"
    with pytest.raises(InvalidRequest, match="there is no engine 'tolk'"):
        ENGINES.foreseen(wanted("none", engine="tolk"), SHELF)


def test_only_an_engine_that_knows_adapters_takes_some() -> None:
    assert ENGINES.served_rank("talk", {}) == 16
    assert ENGINES.served_rank("talk", {"adapters": 0}) == 0
    assert ENGINES.served_rank("read", {}) == 0
