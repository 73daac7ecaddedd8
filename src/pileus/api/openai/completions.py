"""`POST /v1/completions`: plain text or token ids to be continued, one or several prompts at once."""

from typing import Annotated, Literal, Self

from msgspec import UNSET, UnsetType
from msgspec.json import encode
from pydantic import Field, field_validator, model_validator
from starlette.types import ASGIApp

from pileus.api.openai.answers import Completion, CompletionChoice, Usage, completion_logprobs, tier_of, usage_of
from pileus.api.openai.background import BACKGROUND_HEADERS, BackgroundRequest, promise, wants_background
from pileus.api.openai.merged import start_all
from pileus.api.openai.options import SharedOptions
from pileus.api.openai.whole import answer_call
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import Chunks, EventStream, Source
from pileus.api.wishes import WISH_HEADERS, Wish, wish_of
from pileus.core.ids import new_id
from pileus.core.records import FinishReason, GenerationRequest, Lane
from pileus.gateway.records import Delta, TokenText
from pileus.gateway.records import Usage as Counts
from pileus.security.permission import Permission

TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]


class CompletionRequest(SharedOptions):
    """Text to be continued."""

    prompt: str | Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = Field(default=None, description="Only `false`.")
    best_of: int | None = Field(default=None, description="Only the same as `n`.")

    @field_validator("echo", mode="before")
    @classmethod
    def _no_echo(cls, echo: object) -> object:
        if echo is True:
            raise ValueError("`echo: true` is not supported")
        return echo

    @model_validator(mode="after")
    def _best_of_is_n(self) -> Self:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("`best_of` is supported only where it equals `n`")
        return self

    def prompts(self) -> list[str | tuple[int, ...]]:
        """One item for each prompt, whichever of the four forms was sent."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(self.prompt)]
        return [each if isinstance(each, str) else tuple(each) for each in self.prompt]

    def check_choices(self, max_n: int) -> None:
        """Bound the number of choices by the operator's setting: of all prompts together."""
        self.check_number(max_n, len(self.prompts()))

    def requests(self, request_id: str, wish: Wish, traceparent: str | None = None) -> list[GenerationRequest]:
        """One for each prompt."""
        options = self.options(max_tokens=self.max_tokens, logprobs=self.logprobs)
        return [
            GenerationRequest(
                id=request_id if index == 0 else f"{request_id}.{index}",
                traceparent=traceparent,
                model=self.model,
                options=options,
                prompt=prompt,
                lane=wish.lane,
                priority=wish.priority,
                deadline_s=wish.deadline_s,
            )
            for index, prompt in enumerate(self.prompts())
        ]

    def content(self, deltas: list[Delta], source: Source, lane: Lane) -> Completion:
        """The answer as one object."""
        wire = CompletionWire(self, lane)
        wire.name(source.deployment, source.created, source)
        return wire.whole(deltas, source.usage)


async def complete(call: Call) -> ASGIApp:
    """Continue a text; with `stream: true` as server-sent events."""
    form = await call.read(CompletionRequest)
    form.check_choices(call.services.settings.limits.max_n)
    wish = wish_of(call, form.service_tier)
    if wants_background(call, form):
        return await promise(call, form, wish)
    requests = form.requests(call.head.request_id, wish, call.head.traceparent)
    if not form.stream:
        return await answer_call(call, form, requests)
    wire = CompletionWire(form, requests[0].lane)

    async def begin() -> tuple[Source, Chunks]:
        source = await start_all(call.services.pipeline, call.principal, requests)
        wire.name(source.deployment, source.created, source)
        return source, wire

    return EventStream(call.presence(), begin)


class CompletionWire:
    """Makes the objects of one answer; a streamed one is the same object in pieces."""

    def __init__(self, form: CompletionRequest, lane: Lane) -> None:
        self._id = new_id("cmpl")
        self._wants_usage = form.wants_usage
        self._wants_running_usage = form.wants_running_usage
        self._source: Source | None = None
        self._tier = tier_of(lane, form.service_tier)
        self._wants_logprobs = form.logprobs is not None
        self._sent: dict[int, int] = {}  # characters by choice, for text_offset

    def name(self, model: str, created: int, source: Source) -> None:
        self._model, self._created = model, created
        self._source = source if self._wants_running_usage else None

    def encode(self, deltas: list[Delta]) -> bytes:
        return b"".join([self._event([self._piece(delta)]) for delta in deltas if _tells(delta)])

    def end(self, usage: Counts) -> bytes:
        return self._event([], usage_of(usage)) if self._wants_usage else b""

    def whole(self, deltas: list[Delta], usage: Counts) -> Completion:
        """The answer as one object, choices in order."""
        by_choice: dict[int, list[Delta]] = {}
        for delta in deltas:
            by_choice.setdefault(delta.choice, []).append(delta)
        choices = [self._piece(_joined(by_choice[index])) for index in sorted(by_choice)]
        return self._object(choices, usage_of(usage))

    def _piece(self, delta: Delta) -> CompletionChoice:
        offset = self._sent.get(delta.choice, 0)
        self._sent[delta.choice] = offset + len(delta.text)
        return CompletionChoice(
            index=delta.choice,
            text=delta.text,
            logprobs=completion_logprobs(delta.logprobs or (), offset) if self._wants_logprobs else None,
            finish_reason=delta.finish_reason,
        )

    def _event(self, choices: list[CompletionChoice], usage: Usage | None = None) -> bytes:
        if usage is None and self._source is not None:
            usage = usage_of(self._source.usage)
        chunk = self._object(choices, usage if self._wants_usage else UNSET)
        return b"data: " + encode(chunk) + b"\n\n"

    def _object(self, choices: list[CompletionChoice], usage: Usage | UnsetType | None) -> Completion:
        return Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=choices,
            usage=usage,
            service_tier=self._tier,
        )


def _tells(delta: Delta) -> bool:
    return bool(delta.text or delta.logprobs or delta.finish_reason)


def _joined(deltas: list[Delta]) -> Delta:
    """One choice's deltas as a single one."""
    tokens: list[TokenText] = [token for delta in deltas for token in delta.logprobs or ()]
    reasons = [delta.finish_reason for delta in deltas if delta.finish_reason is not None]
    return Delta(
        choice=deltas[0].choice,
        text="".join([delta.text for delta in deltas]),
        tokens=sum(delta.tokens for delta in deltas),
        logprobs=tuple(tokens),
        finish_reason=reasons[-1] if reasons else FinishReason.STOP,
    )


ROUTES = (
    GuardedRoute(
        "POST",
        "/v1/completions",
        complete,
        permission=Permission.GENERATE,
        takes=CompletionRequest,
        headers=(*WISH_HEADERS, *BACKGROUND_HEADERS),
        gives=Completion,
        promises=BackgroundRequest,
        streams=Completion,
        tag="OpenAI",
    ),
)
