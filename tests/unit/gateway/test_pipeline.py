"""What a caller may ask of the pipeline, whichever way the request comes."""

from typing import Any

import pytest

from pileus.config.settings import Limits
from pileus.core.errors import PermissionDenied
from pileus.core.records import GenerationOptions, GenerationRequest, Lane
from pileus.fleet.directory import ServingDirectory
from pileus.gateway.generation import Scheduler
from pileus.gateway.pipeline import Pipeline
from pileus.testing.clock import ManualClock
from unbilled import principal


class NoSchedulers:
    """Nothing is served."""

    def open(self, deployment: str) -> Scheduler:
        raise AssertionError(deployment)

    def close(self, deployment: str) -> None: ...


@pytest.mark.parametrize(("wish", "param"), [({"lane": Lane.CONTINUOUS}, "lane"), ({"priority": 1}, "priority")])
async def test_rights_bind_those_who_do_not_come_through_the_edge(wish: dict[str, Any], param: str) -> None:
    pipeline = Pipeline(Limits(), ServingDirectory([], list), NoSchedulers(), lambda _: b"", ManualClock())
    request = GenerationRequest(id="req_1", model="d", options=GenerationOptions(), prompt="x", **wish)
    with pytest.raises(PermissionDenied) as refused:
        await pipeline.start(principal("t"), request)
    assert refused.value.param == param
