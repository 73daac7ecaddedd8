"""What OpenAI's endpoints answer, as records: encoded by msgspec, and the source of the OpenAPI document."""

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from pileus.api.wishes import TIERS, ServedTier
from pileus.core.records import FinishReason, Lane
from pileus.gateway.records import TokenText
from pileus.gateway.records import Usage as Counts

_IMPOSSIBLE = -9999.0  # OpenAI's stand-in for minus infinity, which JSON does not have


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int


class Usage(Struct, frozen=True):
    """Tokens of one request, over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class AlternativeLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[AlternativeLogprob]


class ChatLogprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class ChatMessage(Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Struct, frozen=True, kw_only=True):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    service_tier: ServedTier | UnsetType = UNSET  # where the request named one


class ChatDelta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """One event of a streamed answer. The last before `[DONE]` has `usage` and no choices, if that was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str | None = None
    service_tier: ServedTier | UnsetType = UNSET  # where the request named one
    usage: Usage | UnsetType | None = UNSET


class CompletionLogprobs(Struct, frozen=True):
    """Four lists of the same length, one item per token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A whole plain completion, or one event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str | None = None
    service_tier: ServedTier | UnsetType = UNSET  # where the request named one
    usage: Usage | UnsetType | None = UNSET


class Model(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "pileus"


class ModelList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


def usage_of(counts: Counts) -> Usage:
    return Usage(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(counts.cached_tokens),
    )


def tier_of(lane: Lane, asked: object) -> ServedTier | UnsetType:
    """The tier that served a request, for one that asked for any."""
    return UNSET if asked is None else TIERS[lane]


def finite(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)


def chat_logprobs(tokens: Iterable[TokenText]) -> ChatLogprobs:
    return ChatLogprobs([_chat_token(token) for token in tokens])


def _chat_token(token: TokenText) -> TokenLogprob:
    top = [AlternativeLogprob(text, finite(logprob), list(raw)) for text, raw, logprob in token.top]
    return TokenLogprob(token.text, finite(token.logprob), list(token.raw), top)


def completion_logprobs(tokens: Iterable[TokenText], offset: int = 0) -> CompletionLogprobs:
    """The legacy shape. `offset` is the number of characters of this choice that came before."""
    found = CompletionLogprobs([], [], [], [])
    for token in tokens:
        found.tokens.append(token.text)
        found.token_logprobs.append(finite(token.logprob))
        found.top_logprobs.append({text: finite(logprob) for text, _, logprob in token.top})
        found.text_offset.append(offset)
        offset += len(token.text)
    return found
