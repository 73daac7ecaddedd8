"""The endpoints that make a model speak, for requests whose answer nobody waits for at a connection: the lines of
batches, and background requests."""

from typing import Final

from msgspec.json import encode

from pileus.api.body import parse
from pileus.api.encoders import forms
from pileus.api.encoders.embeddings import EmbeddingsRequest
from pileus.api.errors import answer as error_answer
from pileus.api.openai.chat import ChatRequest
from pileus.api.openai.completions import CompletionRequest
from pileus.api.openai.whole import Whole, answer
from pileus.api.wishes import Tier, Wish
from pileus.background.records import BackgroundSpec
from pileus.batch.endpoint import Answered, Asked, Endpoint
from pileus.config.settings import Limits
from pileus.core.errors import InvalidRequest, PileusError
from pileus.core.records import GenerationRequest, Lane, Principal
from pileus.fleet.directory import Directory
from pileus.gateway.pipeline import Pipeline

FORMS: Final[dict[str, type[ChatRequest] | type[CompletionRequest]]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
}
EMBEDDINGS: Final = "/v1/embeddings"
_TEXT_LIMIT: Final = 65_536  # characters; a prompt's beginning is all that the order of running looks at


def read_form(path: str, body: bytes, limits: Limits) -> ChatRequest | CompletionRequest:
    """The body as that path's form, for an answer as a whole. Raises `InvalidRequest`."""
    form = parse(FORMS[path], body)
    form.check_choices(limits.max_n)
    if form.stream:
        raise InvalidRequest("`stream: true` is not possible here: nobody listens.", param="stream")
    return form


async def run(
    path: str,
    body: bytes,
    *,
    pipeline: Pipeline,
    principal: Principal,
    request_id: str,
    wish: Wish,
    limits: Limits,
    traceparent: str | None = None,
) -> Whole:
    """Answer a body as the route at that path would."""
    form = read_form(path, body, limits)
    return await answer(form, pipeline, principal, form.requests(request_id, wish, traceparent))


class LineEndpoint:
    """Meets `batch.endpoint.Endpoint`, for the path of one of the `FORMS`."""

    def __init__(self, path: str, pipeline: Pipeline, directory: Directory, limits: Limits) -> None:
        self._path = path
        self._pipeline = pipeline
        self._directory = directory
        self._limits = limits

    def check(self, body: bytes, tenant: str) -> Asked:
        form = read_form(self._path, body, self._limits)
        if form.background:
            raise InvalidRequest("`background` is for requests by themselves: a batch's lines are", param="background")
        _check_tier(form.service_tier)
        target = self._directory.find(form.model, tenant)
        return Asked(target.deployment.name, _text(form.requests("", Wish(Lane.BATCH, 0, None))[0]))

    async def answer(self, body: bytes, principal: Principal, request_id: str, deadline_s: float) -> Answered:
        whole = await run(
            self._path,
            body,
            pipeline=self._pipeline,
            principal=principal,
            request_id=request_id,
            wish=Wish(Lane.BATCH, 0, deadline_s),
            limits=self._limits,
        )
        return Answered(encode(whole.content), whole.usage)

    def refusal(self, error: Exception) -> tuple[int, bytes]:
        status, body = error_answer(error)
        return status, encode(body)


class BackgroundSpeaker:
    """Meets `background.handler.Speaker`."""

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    async def answer(self, spec: BackgroundSpec, body: bytes, principal: Principal, left_s: float) -> bytes:
        whole = await run(
            spec.endpoint,
            body,
            pipeline=self._pipeline,
            principal=principal,
            request_id=spec.request_id,
            wish=Wish(spec.lane, spec.priority, left_s),
            limits=self._limits,
            traceparent=spec.traceparent,
        )
        return encode(whole.content)

    def refusal(self, error: PileusError) -> bytes:
        return encode(error_answer(error)[1])


class EmbeddingsLines:
    """Meets `batch.endpoint.Endpoint`, for `EMBEDDINGS`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def check(self, body: bytes, tenant: str) -> Asked:
        form = parse(EmbeddingsRequest, body)
        deployment = self._pipeline.resolve_encoder(form.model)
        first = forms.texts_of(form.input)[0]
        text = first if isinstance(first, str) else " ".join(map(str, first))
        return Asked(deployment, text[:_TEXT_LIMIT])

    async def answer(self, body: bytes, principal: Principal, request_id: str, deadline_s: float) -> Answered:
        form = parse(EmbeddingsRequest, body)
        request = form.request(request_id, Wish(Lane.BATCH, 0, deadline_s))
        found = await forms.answer(form, self._pipeline, principal, request)
        return Answered(encode(found.content), found.usage)

    def refusal(self, error: Exception) -> tuple[int, bytes]:
        status, body = error_answer(error)
        return status, encode(body)


def line_endpoints(pipeline: Pipeline, directory: Directory, limits: Limits) -> dict[str, Endpoint]:
    """All that a batch can be for, by path."""
    speaking = {path: LineEndpoint(path, pipeline, directory, limits) for path in FORMS}
    return {**speaking, EMBEDDINGS: EmbeddingsLines(pipeline)}


def _check_tier(tier: Tier | None) -> None:
    if tier in ("default", "priority"):
        raise InvalidRequest(
            f"the `service_tier` {tier} is for requests by themselves: a batch's lines are `flex`", param="service_tier"
        )


def _text(request: GenerationRequest) -> str:
    """The beginning of its prompt."""
    if request.messages:
        return "".join([f"{message.role}\n{message.content}\n" for message in request.messages])[:_TEXT_LIMIT]
    if isinstance(request.prompt, str):
        return request.prompt[:_TEXT_LIMIT]
    return " ".join(map(str, request.prompt or ()))[:_TEXT_LIMIT]
