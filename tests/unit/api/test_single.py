"""The endpoints for requests whose answer nobody waits for at a connection."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec import Raw
from msgspec.json import encode

from pileus.api.openai import single
from pileus.background.records import BackgroundSpec
from pileus.config.settings import Limits
from pileus.core.errors import NotFound
from pileus.core.records import GenerationRequest, Lane, Principal
from pileus.gateway.pipeline import Pipeline

WHO = Principal("key_1", "acme", "user", frozenset())


async def test_a_background_request_has_all_the_time_that_is_left_and_not_a_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[GenerationRequest] = []

    async def answer(_form: Any, _pipeline: Any, _who: Any, requests: Sequence[GenerationRequest]) -> None:
        asked.extend(requests)
        raise NotFound("nobody answers here")

    monkeypatch.setattr(single, "answer", answer)
    spec = BackgroundSpec(
        endpoint="/v1/completions",
        body=Raw(encode({"model": "clouds", "prompt": "a"})),
        model="clouds",
        request_id="req_1",
        traceparent=None,
        lane=Lane.ON_DEMAND,
        priority=0,
    )
    limits = Limits()
    left_s = 6 * limits.request_timeout_s
    with pytest.raises(NotFound):
        await single.BackgroundSpeaker(cast(Pipeline, None), limits).answer(spec, bytes(spec.body), WHO, left_s)
    assert [request.deadline_s for request in asked] == [left_s]
