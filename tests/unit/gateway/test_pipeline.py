"""What a caller may ask of the pipeline, whichever way the request comes."""

from typing import Any

import pytest

from pileus.config.settings import Limits
from pileus.core.errors import PermissionDenied
from pileus.core.records import GenerationOptions, GenerationRequest, Lane, Message
from pileus.fleet.directory import ServingDirectory
from pileus.gateway.generation import Scheduler
from pileus.gateway.pipeline import Pipeline, _conversation
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


def said(*turns: str, request: str = "req_1", tenant: str = "t") -> str:
    """The key by which a conversation stays where it is; `s:`, `u:` and `a:` begin what each says."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    messages = tuple(Message(roles[turn[0]], turn[2:]) for turn in turns)
    prompt = None if messages else "x"
    asked = GenerationRequest(id=request, model="d", options=GenerationOptions(), messages=messages, prompt=prompt)
    return _conversation(principal(tenant), asked)


def test_a_conversation_keeps_its_key_as_it_goes_on() -> None:
    begun = said("s:Be brief.", "u:Hello")
    assert said("s:Be brief.", "u:Hello", "a:Hi.", "u:Who are you?", request="req_2") == begun
    assert said("s:Be brief.", "u:Hello!") != begun
    assert said("s:Be long.", "u:Hello") != begun
    assert said("s:Be brief.", "u:Hello", tenant="other") != begun


def test_what_is_no_conversation_goes_by_its_id() -> None:
    assert said(request="req_7") == "req_7"
