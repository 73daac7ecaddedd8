"""`POST /v1/classify`, as vLLM has it."""

from typing import Literal

from msgspec import Struct
from starlette.types import ASGIApp

from pileus.api.encoders.forms import Answering, EncoderUsage, Inputs, LongTextsForm, answer_call, texts_of
from pileus.api.route import Call, GuardedRoute
from pileus.api.wishes import WISH_HEADERS, Wish
from pileus.core.ids import new_id
from pileus.core.records import EncodingRequest
from pileus.gateway.encoding import Encodings
from pileus.gateway.vectors import floats
from pileus.security.permission import Permission


class ClassifyRequest(LongTextsForm):
    """Texts, each of which belongs to one of the model's classes, or to several."""

    input: Inputs

    def request(self, request_id: str, wish: Wish, traceparent: str | None = None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            traceparent=traceparent,
            model=self.model,
            operation="classify",
            texts=texts_of(self.input),
            truncate_to=self.truncation(),
            long_texts=self.long_texts,
            lane=wish.lane,
            priority=wish.priority,
            deadline_s=wish.deadline_s,
        )

    def content(self, found: Encodings, model: Answering) -> "Classification":
        labels = found.labels
        data = [_class(index, floats(values), labels) for index, values in enumerate(found.values)]
        return Classification(
            id=new_id("classify"),
            created=model.created,
            model=model.deployment,
            labels=list(labels),
            data=data,
            usage=model.tokens,
        )


class TextClass(Struct, frozen=True, kw_only=True):
    """The likeliest label, and the probabilities of all, in the order of the answer's `labels`."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class Classification(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    labels: list[str]
    data: list[TextClass]
    usage: EncoderUsage


def _class(index: int, probabilities: list[float], labels: tuple[str, ...]) -> TextClass:
    likeliest = max(range(len(probabilities)), key=probabilities.__getitem__)
    return TextClass(index=index, label=labels[likeliest], probs=probabilities, num_classes=len(labels))


async def classify(call: Call) -> ASGIApp:
    """Tell to which of a classifier's labels each text belongs, e.g. its sentiment."""
    return await answer_call(call, await call.read(ClassifyRequest))


ROUTES = (
    GuardedRoute(
        "POST",
        "/v1/classify",
        classify,
        permission=Permission.GENERATE,
        takes=ClassifyRequest,
        headers=WISH_HEADERS,
        gives=Classification,
        tag="Encoders",
    ),
)
