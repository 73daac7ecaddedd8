"""`POST /v1/chat/completions`"""

from typing import Annotated, Literal, Self

from msgspec import UNSET, UnsetType
from msgspec.json import encode
from pydantic import Field, field_validator, model_validator
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.openai.answers import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatMessage,
    Usage,
    chat_logprobs,
    tier_of,
    usage_of,
)
from pileus.api.openai.background import BACKGROUND_HEADERS, BackgroundRequest, promise, wants_background
from pileus.api.openai.options import MaxTokens, SharedOptions, TextFormat
from pileus.api.openai.whole import answer_call
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import Chunks, EventStream, Source
from pileus.api.wishes import WISH_HEADERS, ServedTier, Wish, wish_of
from pileus.core.ids import new_id
from pileus.core.records import FinishReason, GenerationRequest, Lane, Message
from pileus.gateway.records import Delta, TokenText
from pileus.gateway.records import Usage as Counts
from pileus.security.permission import Permission


class TextPart(WireForm):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class ChatTurn(WireForm):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @field_validator("role", mode="before")
    @classmethod
    def _name_what_is_missing(cls, role: object) -> object:
        if role in ("tool", "function"):
            raise ValueError(f"messages of the role `{role}` are not supported yet")
        return role

    def record(self) -> Message:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(self.role, content)


class ChatRequest(SharedOptions):
    """A conversation to be continued."""

    messages: Annotated[list[ChatTurn], Field(min_length=1)]
    max_completion_tokens: MaxTokens | None = Field(default=None, description="OpenAI's newer name of `max_tokens`.")
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: TextFormat | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("`max_tokens` and `max_completion_tokens` differ: send one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`")
        return self

    def requests(self, request_id: str, wish: Wish, traceparent: str | None = None) -> list[GenerationRequest]:
        """The one that it is."""
        longest = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        request = GenerationRequest(
            id=request_id,
            traceparent=traceparent,
            model=self.model,
            options=self.options(max_tokens=longest, logprobs=logprobs),
            messages=tuple([turn.record() for turn in self.messages]),
            lane=wish.lane,
            priority=wish.priority,
            deadline_s=wish.deadline_s,
        )
        return [request]

    def content(self, deltas: list[Delta], source: Source, lane: Lane) -> ChatCompletion:
        """The answer as one object."""
        return ChatCompletion(
            id=new_id("chatcmpl"),
            created=source.created,
            model=source.deployment,
            choices=_choices(deltas, self.n or 1, wants_logprobs=bool(self.logprobs)),
            usage=usage_of(source.usage),
            service_tier=tier_of(lane, self.service_tier),
        )


async def chat(call: Call) -> ASGIApp:
    """Continue a conversation; with `stream: true` as server-sent events."""
    form = await call.read(ChatRequest)
    form.check_choices(call.services.settings.limits.max_n)
    wish = wish_of(call, form.service_tier)
    if wants_background(call, form):
        return await promise(call, form, wish)
    requests = form.requests(call.head.request_id, wish, call.head.traceparent)
    if not form.stream:
        return await answer_call(call, form, requests)
    pipeline, principal, request = call.services.pipeline, call.principal, requests[0]

    async def begin() -> tuple[Source, Chunks]:
        generation = await pipeline.start(principal, request)
        tier = tier_of(request.lane, form.service_tier)
        return generation, ChatChunks(generation, generation.created, form, tier)

    return EventStream(call.presence(), begin)


def _choices(deltas: list[Delta], n: int, *, wants_logprobs: bool) -> list[ChatChoice]:
    texts: list[list[str]] = [[] for _ in range(n)]
    tokens: list[list[TokenText]] = [[] for _ in range(n)]
    reasons = [FinishReason.STOP] * n
    for delta in deltas:
        texts[delta.choice].append(delta.text)
        if delta.logprobs:
            tokens[delta.choice] += delta.logprobs
        if delta.finish_reason is not None:
            reasons[delta.choice] = delta.finish_reason
    return [
        ChatChoice(
            index=index,
            message=ChatMessage(content="".join(texts[index])),
            finish_reason=reasons[index],
            logprobs=chat_logprobs(tokens[index]) if wants_logprobs else None,
        )
        for index in range(n)
    ]


class ChatChunks:
    """The events of one streamed chat.

    Between two of a choice's events only the text differs, so the rest is encoded once, with a mark in the text's
    place, and cut there.
    """

    _MARK = "\x1f"

    def __init__(self, source: Source, created: int, form: ChatRequest, tier: ServedTier | UnsetType) -> None:
        self._id = new_id("chatcmpl")
        self._model = source.deployment
        self._created = created
        self._wants_usage = form.wants_usage
        self._source = source if form.wants_running_usage else None
        self._tier = tier
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def encode(self, deltas: list[Delta]) -> bytes:
        events: list[bytes] = []
        for delta in deltas:
            frame = self._frames.get(delta.choice)
            if frame is None:
                frame = self._frames[delta.choice] = self._frame(delta.choice)
                events.append(self._event(ChatChunkChoice(delta.choice, ChatDelta("assistant", ""))))
            if delta.logprobs or (delta.text and self._source):
                logprobs = chat_logprobs(delta.logprobs) if delta.logprobs else None
                choice = ChatChunkChoice(delta.choice, ChatDelta(content=delta.text), logprobs)
                events.append(self._event(choice))
            elif delta.text:
                events += (frame[0], encode(delta.text), frame[1])
            if delta.finish_reason is not None:
                choice = ChatChunkChoice(delta.choice, ChatDelta(), finish_reason=delta.finish_reason)
                events.append(self._event(choice))
        return b"".join(events)

    def end(self, usage: Counts) -> bytes:
        return self._event(None, usage_of(usage)) if self._wants_usage else b""

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        marked = self._event(ChatChunkChoice(index, ChatDelta(content=self._MARK)))
        before, _, after = marked.partition(encode(self._MARK))
        return before, after

    def _event(self, choice: ChatChunkChoice | None, usage: Usage | None = None) -> bytes:
        if usage is None and self._source is not None:
            usage = usage_of(self._source.usage)
        chunk = ChatCompletionChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[choice] if choice is not None else [],
            usage=usage if self._wants_usage else UNSET,
            service_tier=self._tier,
        )
        return b"data: " + encode(chunk) + b"\n\n"


ROUTES = (
    GuardedRoute(
        "POST",
        "/v1/chat/completions",
        chat,
        permission=Permission.GENERATE,
        takes=ChatRequest,
        headers=(*WISH_HEADERS, *BACKGROUND_HEADERS),
        gives=ChatCompletion,
        promises=BackgroundRequest,
        streams=ChatCompletionChunk,
        tag="OpenAI",
    ),
)
