"""`POST /v1/rerank` and `/v2/rerank`, as Cohere, Jina and vLLM have it."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.encoders.forms import Answering, EncoderUsage, LongTextsForm, Text, answer_call
from pileus.api.route import Call, GuardedRoute
from pileus.api.wishes import WISH_HEADERS, Wish
from pileus.core.ids import new_id
from pileus.core.records import EncodingRequest
from pileus.gateway.encoding import Encodings
from pileus.gateway.vectors import floats
from pileus.security.permission import Permission


class DocumentText(WireForm):
    """A document as an object, which Jina's clients send."""

    text: Text


class RerankRequest(LongTextsForm):
    """A query, and documents that may answer it."""

    query: Text
    documents: Annotated[list[Text | DocumentText], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1, description="Give the best so many; without it all.")] | None = None
    return_documents: bool = Field(default=False, description="Give the documents' texts too.")

    def request(self, request_id: str, wish: Wish, traceparent: str | None = None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            traceparent=traceparent,
            model=self.model,
            operation="rerank",
            query=self.query,
            texts=tuple(self._text(document) for document in self.documents),
            truncate_to=self.truncation(),
            long_texts=self.long_texts,
            lane=wish.lane,
            priority=wish.priority,
            deadline_s=wish.deadline_s,
        )

    def content(self, found: Encodings, model: Answering) -> "Ranking":
        scores = [floats(values)[0] for values in found.values]
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: self.top_n]
        results = [
            Ranked(index=index, relevance_score=scores[index], document=self._document(index)) for index in order
        ]
        return Ranking(id=new_id("rerank"), model=model.deployment, results=results, usage=model.tokens)

    def _document(self, index: int) -> "RankedDocument | UnsetType":
        return RankedDocument(self._text(self.documents[index])) if self.return_documents else UNSET

    @staticmethod
    def _text(document: str | DocumentText) -> str:
        return document if isinstance(document, str) else document.text


class RankedDocument(Struct, frozen=True):
    text: str


class Ranked(Struct, frozen=True, kw_only=True):
    """A document by its place in the request, and how well it answers the query: from 0 to 1."""

    index: int
    relevance_score: float
    document: RankedDocument | UnsetType = UNSET


class Ranking(Struct, frozen=True, kw_only=True):
    """The best document first."""

    id: str
    model: str
    results: list[Ranked]
    usage: EncoderUsage


async def rerank(call: Call) -> ASGIApp:
    """Sort documents by how well they answer a query."""
    return await answer_call(call, await call.read(RerankRequest))


ROUTES = tuple(
    GuardedRoute(
        "POST",
        path,
        rerank,
        permission=Permission.GENERATE,
        takes=RerankRequest,
        headers=WISH_HEADERS,
        gives=Ranking,
        tag="Encoders",
    )
    for path in ("/v1/rerank", "/v2/rerank")
)
