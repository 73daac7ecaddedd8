"""From what an operator wants to what the fleet can run."""

from pathlib import Path
from typing import Any

import pytest

from pileus.bootstrap.local import open_catalogue
from pileus.bootstrap.workshop import LocalWorkshop
from pileus.config.settings import Deployment, Settings
from pileus.core.errors import InvalidRequest
from pileus.fleet.memory import Footprint
from pileus.models.known import KNOWN_MODELS
from pileus.models.progress import silent

MODEL = KNOWN_MODELS[0]


@pytest.fixture
def workshop(tmp_path: Path) -> LocalWorkshop:
    settings = Settings(data_dir=tmp_path)
    return LocalWorkshop(settings, open_catalogue(settings))


def test_the_footprint_is_what_the_download_has_and_what_the_options_ask_for(workshop: LocalWorkshop) -> None:
    wanted = Deployment(name="x", model=MODEL.name, options={"kv_bytes": 1 << 21})
    assert workshop.check(wanted) == Footprint(MODEL.size_bytes, 1 << 21)
    assert workshop.check(Deployment(name="x", model=MODEL.name)) == Footprint(MODEL.size_bytes, 1 << 30)


@pytest.mark.parametrize(
    ("wish", "param", "message"),
    [
        ({"engine": "nativ"}, "engine", "did you mean `native`"),
        ({"model": "nothing"}, "model", "there is no model 'nothing'"),
        ({"options": {"kv_byte": 1}}, "options.kv_byte", "did you mean `kv_bytes`"),
        ({"options": {"threads": "two"}}, "options.threads", "must be a whole number"),
    ],
)
def test_what_cannot_run_is_refused_by_the_field_at_fault(
    workshop: LocalWorkshop, wish: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        workshop.check(Deployment(**{"name": "x", "model": MODEL.name} | wish))
    assert refused.value.param == param


async def test_a_model_that_is_none_needs_no_files(workshop: LocalWorkshop) -> None:
    made = await workshop.make(Deployment(name="x", model="fake", engine="fake", replicas=2, min_replicas=1), silent)
    assert (made.replicas, made.spec["model_path"], made.footprint.total) == (2, None, 0)
    assert made.policy is not None
    assert (made.policy.min_replicas, made.policy.max_replicas) == (1, 2)
    assert workshop.tokenizer("fake").context_length == 8192
