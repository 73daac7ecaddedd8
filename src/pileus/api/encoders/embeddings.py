"""`POST /v1/embeddings`, as OpenAI has it."""

from typing import Annotated, Literal

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.encoders.forms import (
    Answering,
    EncoderUsage,
    Inputs,
    LongTextsForm,
    answer_call,
    base64_of,
    texts_of,
)
from pileus.api.route import Call, GuardedRoute
from pileus.api.wishes import WISH_HEADERS, Wish
from pileus.core.records import EncodingRequest
from pileus.gateway.encoding import Encodings
from pileus.gateway.vectors import floats
from pileus.security.permission import Permission


class EmbeddingsRequest(LongTextsForm):
    """Texts, of which each becomes a vector. Texts as token ids have their special tokens in them."""

    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: (
        Annotated[
            int, Field(ge=1, le=65_536, description="Keep the first so many numbers, and make the length 1 again.")
        ]
        | None
    ) = None

    def request(self, request_id: str, wish: Wish, traceparent: str | None = None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            traceparent=traceparent,
            model=self.model,
            operation="embeddings",
            texts=texts_of(self.input),
            dimensions=self.dimensions,
            truncate_to=self.truncation(),
            long_texts=self.long_texts,
            lane=wish.lane,
            priority=wish.priority,
            deadline_s=wish.deadline_s,
        )

    def content(self, found: Encodings, model: Answering) -> "Embeddings":
        written = base64_of if self.encoding_format == "base64" else floats
        data = [Embedding(embedding=written(values), index=index) for index, values in enumerate(found.values)]
        return Embeddings(data=data, model=model.deployment, usage=model.tokens)


class Embedding(Struct, frozen=True, kw_only=True):
    """One text's vector: numbers, or the base64 of little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str
    index: int


class Embeddings(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EncoderUsage


async def embed(call: Call) -> ASGIApp:
    """Turn texts into vectors, so that texts that mean the same lie close together."""
    return await answer_call(call, await call.read(EmbeddingsRequest))


ROUTES = (
    GuardedRoute(
        "POST",
        "/v1/embeddings",
        embed,
        permission=Permission.GENERATE,
        takes=EmbeddingsRequest,
        headers=WISH_HEADERS,
        gives=Embeddings,
        tag="OpenAI",
    ),
)
