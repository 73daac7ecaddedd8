"""The one way to a model: resolve, tokenise, bound, reserve, queue. What comes back is a `Generation`, or of an encoder
a `TextsEncoding`."""

import random
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from pileus.config.settings import Limits
from pileus.core.clock import Clock
from pileus.core.errors import ContextLengthExceeded, InvalidRequest, Overloaded, PermissionDenied
from pileus.core.ports import TextEncoder, Tokenizer
from pileus.core.records import EncodingRequest, GenerationRequest, Principal, Request, SamplingParams
from pileus.fleet.directory import Directory
from pileus.gateway.encoding import EncodeWork, TextsEncoding
from pileus.gateway.generation import Generation
from pileus.gateway.pending import Pending, Scheduler
from pileus.gateway.records import Work
from pileus.gateway.scheduler import Schedulers
from pileus.gateway.text import prompt_ids
from pileus.gateway.texts import by_segments, output_of, pack
from pileus.scheduling.prefixes import chain


class _Served(Struct, frozen=True):
    """What belongs to one deployment."""

    scheduler: Scheduler
    tokenizer: Tokenizer | None  # of a model that speaks
    encoder: TextEncoder | None  # of one that encodes


_Pending = TypeVar("_Pending", bound=Pending)


class Pipeline:
    """Serves the deployments that are opened."""

    def __init__(
        self,
        limits: Limits,
        directory: Directory,
        schedulers: Schedulers,
        salt: Callable[[str], bytes],
        clock: Clock,
    ) -> None:
        self._limits = limits
        self._directory = directory
        self._schedulers = schedulers
        self._salt = salt
        self._clock = clock
        self._contexts: dict[str, int] = {}  # as the replicas last told
        self._served: dict[str, _Served] = {}

    def open(self, deployment: str, tokenizer: Tokenizer | TextEncoder) -> None:
        """Begin to take requests for a deployment of the directory, or one that is about to be. What turns texts to ids
        tells an encoder from a model that speaks."""
        scheduler = self._schedulers.open(deployment)
        if isinstance(tokenizer, TextEncoder):
            self._served[deployment] = _Served(scheduler, None, tokenizer)
        else:
            self._served[deployment] = _Served(scheduler, tokenizer, None)

    def close(self, deployment: str) -> None:
        """Take no more requests for it, and turn away those that wait. What runs goes on."""
        del self._served[deployment]
        self._schedulers.close(deployment)

    async def start(self, principal: Principal, request: GenerationRequest) -> Generation:
        """Admit the request.

        Raises `PermissionDenied` for a lane or a priority that is not the caller's, and `ModelNotFound`,
        `InvalidRequest`, `ContextLengthExceeded`, `QuotaExceeded` or `Overloaded` before anything was computed.
        """
        began = self._clock.monotonic()
        _check_rights(principal, request)
        target = self._directory.find(request.model, principal.tenant, lambda: _conversation(principal, request))
        deployment, adapter = target.deployment, target.adapter
        served = self._served[deployment.name]
        tokenizer, scheduler = _speaking(served, deployment.name), served.scheduler
        prompt = await prompt_ids(tokenizer, request)
        self._check_choices(deployment.name, request.options.n)
        params = self._params(request, tokenizer, prompt, self._max_context(deployment.name, tokenizer))
        salt = self._salt(principal.tenant)
        context = salt if adapter is None else salt + b"\0" + adapter.id.encode()  # its keys and values are its own
        prefix = chain(prompt, context)
        work = Work(request, principal, deployment.name, tuple(prompt), params, salt, prefix, adapter)
        return await self._admitted(Generation(work, tokenizer, scheduler, self._clock, began), scheduler)

    async def encode(self, principal: Principal, request: EncodingRequest) -> TextsEncoding:
        """As `start`, for texts to be encoded."""
        began = self._clock.monotonic()
        _check_rights(principal, request)
        deployment = self._directory.resolve(request.model, lambda: request.id)
        served = self._served[deployment.name]
        model = _encoding(served, deployment.name)
        output = output_of(request, model)
        segments = by_segments(request, deployment.long_texts)
        packed = await pack(request, model, self._limits, segments=segments)
        work = EncodeWork(request, principal, deployment.name, packed.texts, packed.seconds, output, packed.weights)
        pending = TextsEncoding(work, model.encoding, served.scheduler, self._clock, began)
        return await self._admitted(pending, served.scheduler)

    def resolve_encoder(self, model: str) -> str:
        """The deployment of that name or alias. Raises `ModelNotFound`, or `InvalidRequest` for what is no encoder."""
        name = self._directory.resolve(model).name
        _encoding(self._served[name], name)
        return name

    async def _admitted(self, pending: _Pending, scheduler: Scheduler) -> _Pending:
        try:
            await scheduler.admit(pending)
        except Overloaded as refusal:
            raise pending.explained(refusal) from None
        pending.watch_deadline(pending.request.deadline_s or self._limits.request_timeout_s)
        return pending

    def _max_context(self, deployment: str, tokenizer: Tokenizer) -> int:
        """Tokens that every ready replica can hold, or could; the model's own length before any was ready."""
        if ready := self._directory.ready(deployment):
            self._contexts[deployment] = min(link.capabilities.max_context for link in ready)
        return self._contexts.get(deployment, tokenizer.context_length)

    def _check_choices(self, deployment: str, choices: int) -> None:
        ready = self._directory.ready(deployment)
        slots = max((link.capabilities.slots for link in ready), default=choices)
        if choices > slots:
            raise InvalidRequest(f"`n` should be at most {slots}: a replica has no more slots.", param="n")

    def _params(
        self, request: GenerationRequest, tokenizer: Tokenizer, prompt: list[int], max_context: int
    ) -> SamplingParams:
        options = request.options
        field = "prompt" if request.prompt is not None else "messages"
        if not prompt:
            raise InvalidRequest("The prompt is empty: send at least one token.", param=field)
        given = request.prompt if isinstance(request.prompt, tuple) else ()
        for token, param in (*((t, "prompt") for t in given), *((t, "logit_bias") for t in options.logit_bias)):
            if not 0 <= token < tokenizer.vocab_size:
                raise InvalidRequest(
                    f"The token {token} is outside the vocabulary of {tokenizer.vocab_size} tokens.", param=param
                )
        room = max_context - len(prompt)
        wanted = options.max_tokens
        if room < (wanted or 1):
            raise ContextLengthExceeded(
                f"This model's maximum context length is {max_context} tokens, but the prompt has {len(prompt)} tokens"
                + (
                    f" and {wanted} were asked for as the answer."
                    if wanted
                    else ", which leaves no room for an answer."
                ),
                param=field,
            )
        return SamplingParams(
            max_tokens=wanted or min(room, self._limits.default_max_tokens),
            seed=random.getrandbits(63) if options.seed is None else options.seed,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            min_p=options.min_p,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            repetition_penalty=options.repetition_penalty,
            logit_bias=options.logit_bias,
            logprobs=options.logprobs,
            stop_ids=() if options.ignore_eos else tokenizer.stop_ids,
        )


def _conversation(principal: Principal, request: GenerationRequest) -> str:
    """What stays the same as a conversation goes on, so that it stays with one deployment: whose it is, and how it
    begins, up to the first thing that a person said. What is no conversation has its id alone."""
    if not request.messages:
        return request.id
    roles = [message.role for message in request.messages]
    begins = request.messages[: roles.index("user") + 1 if "user" in roles else 1]
    return "\0".join((principal.tenant, *(part for each in begins for part in (each.role, each.content))))


def _speaking(served: _Served, deployment: str) -> Tokenizer:
    if served.tokenizer is None:
        raise InvalidRequest(
            f"`{deployment}` is an encoder, which says no text: it serves /v1/embeddings, /v1/classify or /v1/rerank.",
            param="model",
        )
    return served.tokenizer


def _encoding(served: _Served, deployment: str) -> TextEncoder:
    if served.encoder is None:
        raise InvalidRequest(f"`{deployment}` is no encoder: it generates text.", param="model")
    return served.encoder


def _check_rights(principal: Principal, request: Request) -> None:
    """The edge says it in its own words first; what does not come through the edge is bound all the same."""
    if request.lane not in principal.lanes:
        raise PermissionDenied(f"This caller may not use the lane {request.lane}.", param="lane")
    if request.priority > principal.max_priority:
        raise PermissionDenied(f"This caller may not use the priority {request.priority}.", param="priority")
