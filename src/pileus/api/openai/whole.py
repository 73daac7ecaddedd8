"""An answer that is given as a whole. A route, a batch's line and a background request have the same one.

form = read(path, body)                        what was asked, checked
requests = form.requests(id, wish)             what goes into the pipeline
whole = await answer(form, pipeline, ...)      what came out, as the object that a client gets
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from pileus.api.openai.answers import ChatCompletion, Completion
from pileus.api.openai.merged import start_all
from pileus.api.route import Call
from pileus.api.stream import JsonAnswer, Source, collect, timing_headers
from pileus.api.wishes import Wish
from pileus.core.records import GenerationRequest, Lane, Principal
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.records import Delta, Timings, Usage


class Whole(Struct, frozen=True):
    """What a client gets, and what it took."""

    content: ChatCompletion | Completion
    usage: Usage
    timings: Timings


class SpeakingForm(Protocol):
    """A request to make a model speak."""

    @property
    def model(self) -> str: ...

    def check_choices(self, max_n: int) -> None:
        """Bound the number of choices by the operator's setting. Raises `InvalidRequest`."""

    def requests(self, request_id: str, wish: Wish, traceparent: str | None = None) -> list[GenerationRequest]:
        """One for each prompt."""
        ...

    def content(self, deltas: list[Delta], source: Source, lane: Lane) -> ChatCompletion | Completion:
        """The answer as one object."""
        ...


async def answer(
    form: SpeakingForm, pipeline: Pipeline, principal: Principal, requests: Sequence[GenerationRequest]
) -> Whole:
    """Have it answered. Raises as `Pipeline.start` and `Generation.next` do."""
    source = await start_all(pipeline, principal, requests)
    deltas = await collect(source)
    return Whole(form.content(deltas, source, requests[0].lane), source.usage, source.timings)


async def answer_call(call: Call, form: SpeakingForm, requests: Sequence[GenerationRequest]) -> JsonAnswer:
    """As a response to a client that waits for it."""
    async with call.presence():
        whole = await answer(form, call.services.pipeline, call.principal, requests)
    return JsonAnswer(whole.content, timing_headers(whole.timings, finished=True))
