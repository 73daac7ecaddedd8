"""What the requests to encoders share, and how an answer is had: by a route, or for a batch's line."""

from base64 import b64encode
from typing import Annotated, Generic, Protocol, Self, TypeVar

from msgspec import Struct
from pydantic import Field, model_validator

from pileus.api.body import WireForm
from pileus.api.route import Call
from pileus.api.stream import JsonAnswer, timing_headers
from pileus.api.wishes import Wish, wish_of
from pileus.core.records import EncodingRequest, LongTexts, Principal
from pileus.gateway.encoding import Encodings
from pileus.gateway.pipeline import Pipeline
from pileus.gateway.records import Timings, Usage

TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Inputs = Text | Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1)]
Truncation = Annotated[
    int,
    Field(
        ge=-1,
        le=2**31 - 1,
        description="Cut longer texts to so many tokens; -1 is the most that the model takes. Without it they are "
        "refused, or encoded by segments where `long_texts` or the deployment says so (not for features). As vLLM has "
        "it.",
    ),
]


class EncoderForm(WireForm):
    """A request to an encoder."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="A deployment's name or alias.")]
    user: Annotated[str, Field(max_length=512, description="Taken, and not looked at: the key tells.")] | None = None
    truncate_prompt_tokens: Truncation | None = None

    def truncation(self) -> int | None:
        """As `EncodingRequest.truncate_to`."""
        return -1 if self.truncate_prompt_tokens == 0 else self.truncate_prompt_tokens


class LongTextsForm(EncoderForm):
    """A request whose long texts can be cut into segments."""

    long_texts: Annotated[
        LongTexts | None,
        Field(
            description="`segments` cuts longer texts into overlapping segments, and gives one answer for all of them; "
            "`refuse` refuses such texts. Without it, as the deployment has it."
        ),
    ] = None

    @model_validator(mode="after")
    def _cut_in_one_way(self) -> Self:
        if self.long_texts is not None and self.truncate_prompt_tokens is not None:
            raise ValueError(f"`long_texts: {self.long_texts}` and `truncate_prompt_tokens` exclude each other")
        return self


class EncoderUsage(Struct, frozen=True):
    """Tokens of all texts together, their special tokens too."""

    prompt_tokens: int
    total_tokens: int


Content = TypeVar("Content", covariant=True)


class AskingForm(Protocol[Content]):
    """A request to an encoder, as its route reads it."""

    def request(self, request_id: str, wish: Wish, traceparent: str | None = None) -> EncodingRequest: ...

    def content(self, found: Encodings, model: "Answering") -> Content:
        """The answer as one object."""
        ...


class Answering(Struct, frozen=True):
    """Who answered, and what it took."""

    deployment: str
    created: int  # wall clock, in whole seconds
    usage: Usage

    @property
    def tokens(self) -> EncoderUsage:
        return EncoderUsage(self.usage.prompt_tokens, self.usage.prompt_tokens)


_Content = TypeVar("_Content")


class Answer(Struct, Generic[_Content], frozen=True):
    content: _Content
    usage: Usage
    timings: Timings


async def answer(
    form: AskingForm[_Content], pipeline: Pipeline, principal: Principal, request: EncodingRequest
) -> Answer[_Content]:
    """Have it answered. Raises as `Pipeline.encode` and `TextsEncoding.whole` do."""
    pending = await pipeline.encode(principal, request)
    try:
        found = await pending.whole()
    except BaseException:
        pending.cancel()
        raise
    told = Answering(pending.deployment, pending.created, pending.usage)
    return Answer(form.content(found, told), pending.usage, pending.timings)


async def answer_call(call: Call, form: AskingForm[object]) -> JsonAnswer:
    """As a response to a client that waits for it."""
    request = form.request(call.head.request_id, wish_of(call, None), call.head.traceparent)
    async with call.presence():
        found = await answer(form, call.services.pipeline, call.principal, request)
    return JsonAnswer(found.content, timing_headers(found.timings, finished=True))


def texts_of(given: str | list[str] | list[int] | list[list[int]]) -> tuple[str | tuple[int, ...], ...]:
    """One item for each text, whichever of the four forms was sent."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given[0], int):
        return (tuple(given),)
    return tuple(each if isinstance(each, str) else tuple(each) for each in given)


def base64_of(values: bytes) -> str:
    """As OpenAI sends vectors: the bytes of little-endian 32-bit floats."""
    return b64encode(values).decode("ascii")
