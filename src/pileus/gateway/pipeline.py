"""The one way to a model: resolve, tokenise, bound, reserve, queue. What comes back is a `Generation`."""

import random
from collections.abc import Callable, Mapping

from msgspec import Struct

from pileus.config.settings import Settings
from pileus.core.clock import Clock
from pileus.core.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, PileusError
from pileus.core.ports import Tokenizer
from pileus.core.records import GenerationRequest, Principal, SamplingParams
from pileus.fleet.directory import Directory
from pileus.gateway.dispatch import Dispatcher
from pileus.gateway.generation import Generation, Work
from pileus.gateway.settle import Settlement
from pileus.gateway.text import prompt_ids
from pileus.scheduling.admission import AdmissionQueue, Bounds, Share, Standing
from pileus.scheduling.routing import Router
from pileus.scheduling.scaling import Demand


class _Served(Struct, frozen=True):
    """What belongs to one deployment."""

    tokenizer: Tokenizer
    dispatcher: Dispatcher


class Pipeline:
    """Serves every deployment of the directory."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        tokenizers: Mapping[str, Tokenizer],
        settlement: Settlement,
        salt: Callable[[str], bytes],
        shares: Mapping[str, Share],
        clock: Clock,
    ) -> None:
        self._limits = settings.limits
        self._queue = settings.queue
        self._directory = directory
        self._settlement = settlement
        self._salt = salt
        self._shares = shares
        self._clock = clock
        self._contexts: dict[str, int] = {}  # as the replicas last told
        self._served: dict[str, _Served] = {}
        for name in directory.deployments():
            self.open(name, tokenizers[name])

    def open(self, deployment: str, tokenizer: Tokenizer) -> None:
        """Begin to take requests for a deployment of the directory, or one that is about to be."""
        queue = self._queue
        bounds = Bounds(queue.max_requests, queue.max_tokens, queue.max_wait_s, queue.max_foreseen_s)
        dispatcher = Dispatcher(
            deployment,
            AdmissionQueue(bounds, self._shares),
            Router(),
            self._clock,
            starting_s=lambda: self._directory.starting_s(deployment),
            most_held=queue.max_requests,
        )
        self._directory.subscribe(deployment, dispatcher.on_news)
        self._served[deployment] = _Served(tokenizer, dispatcher)

    def close(self, deployment: str) -> None:
        """Take no more requests for it, and turn away those that wait. What runs goes on."""
        self._served.pop(deployment).dispatcher.close()

    def waiting(self, deployment: str) -> int:
        """Requests in the queue of a deployment."""
        served = self._served.get(deployment)
        return 0 if served is None else served.dispatcher.waiting

    def demand(self, deployment: str) -> Demand:
        """What scaling must know of it, but for the latencies."""
        dispatcher = self._served[deployment].dispatcher
        ready = self._directory.ready(deployment)
        slots = sum(link.capabilities.slots for link in ready)
        return Demand(
            active_s=dispatcher.active_s,
            waiting=dispatcher.waiting,
            foreseen_s=dispatcher.foreseen_s,
            used_slots=slots - sum(link.available().slots for link in ready),
            slots=slots,
            ready=len(ready),
        )

    def standings(self, deployment: str) -> list[Standing]:
        """Who waits there, by tenant and lane."""
        served = self._served.get(deployment)
        return [] if served is None else served.dispatcher.standings()

    async def start(self, principal: Principal, request: GenerationRequest) -> Generation:
        """Admit the request.

        Raises `ModelNotFound`, `InvalidRequest`, `ContextLengthExceeded`, `QuotaExceeded` or `Overloaded` before
        anything was computed.
        """
        began = self._clock.monotonic()
        deployment = self._directory.resolve(request.model)
        served = self._served[deployment.name]
        tokenizer, dispatcher = served.tokenizer, served.dispatcher
        prompt = await prompt_ids(tokenizer, request)
        self._check_choices(deployment.name, request.options.n)
        params = self._params(request, tokenizer, prompt, self._max_context(deployment.name, tokenizer))
        salt = self._salt(principal.tenant)
        work = Work(request, principal.tenant, deployment.name, tuple(prompt), params, salt)
        reservation = self._settlement.reserve(
            principal, deployment.price, len(prompt), params.max_tokens * request.options.n
        )

        def on_end(generation: Generation, outcome: str) -> None:
            tokens, failed = generation.usage.completion_tokens, outcome == EngineFailed.code
            dispatcher.served(generation, tokens, generation.replica, failed=failed)
            self._settlement.settle(reservation, deployment.price, request, generation, outcome)

        generation = Generation(work, tokenizer, dispatcher, self._clock, on_end, began)
        self._directory.wake(deployment.name)
        try:
            generation.start(request.deadline_s or self._limits.request_timeout_s)
        except PileusError as error:
            error.settled = True
            self._settlement.settle(reservation, deployment.price, request, generation, error.code)
            raise
        return generation

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
