"""Texts to what an encoder takes: checked, tokenised, and packed."""

import asyncio
from array import array
from collections.abc import Sequence

from msgspec import Struct

from pileus.config.settings import Limits
from pileus.core.errors import ContextLengthExceeded, InvalidRequest
from pileus.core.ports import TextEncoder
from pileus.core.records import EncodeOutput, EncodingRequest, Frame, LongTexts, Task
from pileus.gateway.segments import Segment, cut, least_room, room_of, segment_count, segment_size

# Tokenising this many characters takes about as long as handing them to a thread and back.
_INLINE_CHARACTERS = 4_000
_CUT = "`truncate_prompt_tokens: -1` cuts such texts"
_CUT_OR_SEGMENTS = f'{_CUT}, and `long_texts: "segments"` has all of each encoded, in pieces'
_TASKS = {
    Task.EMBED: "embeddings: use /v1/embeddings",
    Task.CLASSIFY: "classes: use /v1/classify",
    Task.RERANK: "scores of pairs: use /v1/rerank",
}


class Packed(Struct, frozen=True):
    """`texts` and `seconds` as in `EncodeRequest`. Where any text was cut into segments, these are the segments of all,
    and `weights` has those of each text's (see `Segment`)."""

    texts: tuple[bytes, ...]
    seconds: tuple[int, ...] = ()
    weights: tuple[tuple[int, ...], ...] = ()


def output_of(request: EncodingRequest, model: TextEncoder) -> EncodeOutput:
    """What the engine shall give for a request. Raises `InvalidRequest` for what this model does not have."""
    encoding = model.encoding
    if request.scores:
        task = Task.RERANK if request.operation == "rerank" else Task.CLASSIFY
        if encoding.task is not task:
            raise InvalidRequest(f"`{request.model}` gives {_TASKS[encoding.task]}.", param="model")
        return EncodeOutput(scores=True)
    if not encoding.features or (request.operation == "embeddings" and encoding.task is not Task.EMBED):
        raise InvalidRequest(f"`{request.model}` gives {_TASKS[encoding.task]}.", param="model")
    dimensions = request.dimensions or 0
    if dimensions > encoding.hidden_size:
        raise InvalidRequest(f"`dimensions` should be at most {encoding.hidden_size}.", param="dimensions")
    plain = request.operation != "embeddings"
    return EncodeOutput(
        pooling=request.pooling or encoding.pooling,
        layer=_layer(request.layer, encoding.layers),
        normalise=request.normalise if request.normalise is not None else encoding.normalise and not plain,
        dimensions=dimensions,
    )


def _layer(asked: int | None, layers: int) -> int:
    """As the engine counts: -1 is the last."""
    if asked is None or asked in (-1, layers):
        return -1
    layer = asked if asked >= 0 else layers + 1 + asked
    if not layers:
        raise InvalidRequest("`layer` should be -1: this model's file has the last layer only.", param="layer")
    if not 0 <= layer < layers:
        raise InvalidRequest(f"`layer` should be from {-layers - 1} to {layers}.", param="layer")
    return layer


def by_segments(request: EncodingRequest, usual: LongTexts) -> bool:
    """Whether its long texts are cut into segments; `usual` is the deployment's way."""
    if request.operation == "features" or request.truncate_to is not None:
        return False
    return (request.long_texts or usual) == "segments"


async def pack(request: EncodingRequest, model: TextEncoder, limits: Limits, *, segments: bool = False) -> Packed:
    """The ids of the texts, with `segments` of long texts' segments. Many characters are tokenised in a thread, so that
    others' streams go on. Raises `InvalidRequest` or `ContextLengthExceeded`, naming the text."""
    if len(request.texts) > limits.max_texts:
        raise InvalidRequest(f"There are {len(request.texts)} texts; at most {limits.max_texts} are allowed.")
    characters = sum(len(text) for text in request.texts if isinstance(text, str))
    characters += len(request.texts) * len(request.query or "")  # it stands before each of them
    if characters <= _INLINE_CHARACTERS:
        return _pack(request, model, limits, segments)
    return await asyncio.to_thread(_pack, request, model, limits, segments)


def _pack(request: EncodingRequest, model: TextEncoder, limits: Limits, segments: bool) -> Packed:
    if request.query is not None:
        texts, seconds = _pairs(request.query, request, model, limits)
    else:
        texts, seconds = _texts(request, model), ()
    weights: tuple[tuple[int, ...], ...] = ()
    if not segments:
        texts = _fitted(texts, request, model)
    elif any(len(ids) > model.encoding.max_length for ids in texts):
        found = _segmented(texts, request, model, limits)
        weights = tuple(tuple(segment.weight for segment in each) for each in found)
        seconds = tuple(second for second, own in zip(seconds, weights, strict=False) for _ in own)
        texts = [segment.ids for each in found for segment in each]
    _check_total(sum(map(len, texts)), request, limits)
    return Packed(tuple(array("I", ids).tobytes() for ids in texts), seconds if any(seconds) else (), weights)


def _pairs(
    query: str, request: EncodingRequest, model: TextEncoder, limits: Limits
) -> tuple[list[list[int]], tuple[int, ...]]:
    """The query with each document, and where that begins. The query is counted first: it would be tokenised, and kept,
    once for each document."""
    frame, longest = model.frame(query), model.encoding.max_length
    if request.truncate_to is not None and request.truncate_to > 0:
        longest = min(longest, request.truncate_to)
    _check_room(frame, longest, 1)
    repeated = len(request.texts) * (len(frame.before) + len(frame.after))
    _check_total(repeated, request, limits, "The query before each document has")
    pairs = model.encode_pairs(query, [text for text in request.texts if isinstance(text, str)])
    return [ids for ids, _ in pairs], tuple(second for _, second in pairs)


def _texts(request: EncodingRequest, model: TextEncoder) -> list[list[int]]:
    """Those that came as ids are taken as they are."""
    vocab_size = model.encoding.vocab_size
    for ids in request.texts:
        if not isinstance(ids, str) and (outside := next((id_ for id_ in ids if not 0 <= id_ < vocab_size), None)):
            raise InvalidRequest(
                f"The token {outside} is outside the vocabulary of {vocab_size} tokens.", param=_field(request)
            )
    encoded = iter(model.encode([text for text in request.texts if isinstance(text, str)]))
    return [next(encoded) if isinstance(text, str) else list(text) for text in request.texts]


def _fitted(texts: Sequence[list[int]], request: EncodingRequest, model: TextEncoder) -> list[list[int]]:
    """None longer than the model's limit: cut, where the request wants that."""
    longest = model.encoding.max_length
    asked = request.truncate_to
    if asked is not None and asked > longest:
        raise InvalidRequest(
            f"`truncate_prompt_tokens` should be at most {longest}: the model has no more.",
            param="truncate_prompt_tokens",
        )
    if asked is not None:
        return [model.shorten(ids, asked if asked > 0 else longest) for ids in texts]
    ways = _CUT if request.operation == "features" else _CUT_OR_SEGMENTS
    for place, ids in enumerate(texts):
        if len(ids) > longest:
            raise ContextLengthExceeded(
                f"This model's maximum length is {longest} tokens, but text {place} has {len(ids)} tokens. {ways}.",
                param=_field(request),
            )
    return list(texts)


def _segmented(
    texts: Sequence[list[int]], request: EncodingRequest, model: TextEncoder, limits: Limits
) -> list[list[Segment]]:
    """Those of each text; of one that fits, itself. Counted before they are made: segments repeat their frame, so a
    small request could become many."""
    frame, longest = model.frame(request.query), model.encoding.max_length
    room = room_of(frame, longest)
    _check_room(frame, longest, least_room(longest))
    total = 0
    for place, ids in enumerate(texts):
        own = len(ids) - (longest - room)
        count = segment_count(own, room)
        if count > limits.max_segments:
            raise ContextLengthExceeded(
                f"Text {place} has {len(ids)} tokens, which are {count} segments; at most {limits.max_segments} are "
                "allowed (`limits.max_segments`): send it in parts.",
                param=_field(request),
            )
        total += count * (segment_size(own, count, room) + longest - room)
    _check_total(total, request, limits)
    return [[Segment(ids, len(ids))] if len(ids) <= longest else cut(ids, frame, room) for ids in texts]


def _check_room(frame: Frame, longest: int, least: int) -> None:
    """That it leaves room for so many tokens of a document."""
    room = room_of(frame, longest)
    if room < least:
        raise ContextLengthExceeded(
            f"The query has {len(frame.before)} tokens with its special tokens: in {longest} that leaves room for "
            f"{max(room, 0)} of a document, and it takes at least {least}. Shorten the query.",
            param="query",
        )


def _check_total(total: int, request: EncodingRequest, limits: Limits, what: str = "The texts have") -> None:
    if total > limits.max_texts_tokens:
        raise ContextLengthExceeded(
            f"{what} {total} tokens together; at most {limits.max_texts_tokens} are allowed.",
            param=_field(request),
        )


def _field(request: EncodingRequest) -> str:
    return "documents" if request.query is not None else "input"
