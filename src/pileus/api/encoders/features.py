"""`POST /v1/features`: what a layer of a BERT makes of a text, token by token or pooled."""

from typing import Annotated, Literal

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.encoders.forms import (
    Answering,
    EncoderForm,
    EncoderUsage,
    Inputs,
    answer_call,
    base64_of,
    texts_of,
)
from pileus.api.route import Call, GuardedRoute
from pileus.api.wishes import WISH_HEADERS, Wish
from pileus.core.records import EncodingRequest, Pooling
from pileus.gateway.encoding import Encodings
from pileus.gateway.vectors import floats
from pileus.security.permission import Permission

_FLOAT_BYTES = 4


class FeaturesRequest(EncoderForm):
    """Texts, and which of the model's hidden states are wanted of each."""

    input: Inputs
    layer: Annotated[
        int,
        Field(ge=-1024, le=1024, description="0 is the embeddings, 1 the first layer's output, -1 the last layer's."),
    ] = -1
    pooling: Literal["tokens", "mean", "cls", "max"] = Field(
        default="tokens", description="A vector for each token, special ones too; or one for the text."
    )
    normalise: bool = Field(default=False, description="Make each vector's length 1.")
    encoding_format: Literal["float", "base64"] = "float"

    def request(self, request_id: str, wish: Wish, traceparent: str | None = None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            traceparent=traceparent,
            model=self.model,
            operation="features",
            texts=texts_of(self.input),
            layer=self.layer,
            pooling=Pooling(self.pooling),
            normalise=self.normalise,
            truncate_to=self.truncation(),
            lane=wish.lane,
            priority=wish.priority,
            deadline_s=wish.deadline_s,
        )

    def content(self, found: Encodings, model: Answering) -> "FeaturesList":
        data = [self._features(index, values, found.width) for index, values in enumerate(found.values)]
        return FeaturesList(data=data, model=model.deployment, usage=model.tokens)

    def _features(self, index: int, values: bytes, width: int) -> "Features":
        shape = [len(values) // (_FLOAT_BYTES * width), width]
        if self.encoding_format == "base64":
            return Features(index=index, shape=shape, features=base64_of(values))
        numbers = floats(values)
        rows = [numbers[at : at + width] for at in range(0, len(numbers), width)]
        return Features(index=index, shape=shape, features=rows)


class Features(Struct, frozen=True, kw_only=True):
    """Of one text: `shape` is [tokens, hidden size], or [1, hidden size] where they were pooled. In base64, the bytes
    of little-endian 32-bit floats, row by row."""

    object: Literal["features"] = "features"
    index: int
    shape: list[int]
    features: list[list[float]] | str


class FeaturesList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Features]
    model: str
    usage: EncoderUsage


async def features(call: Call) -> ASGIApp:
    """Give the hidden states of an encoder's layer."""
    return await answer_call(call, await call.read(FeaturesRequest))


ROUTES = (
    GuardedRoute(
        "POST",
        "/v1/features",
        features,
        permission=Permission.GENERATE,
        takes=FeaturesRequest,
        headers=WISH_HEADERS,
        gives=FeaturesList,
        tag="Encoders",
    ),
)
