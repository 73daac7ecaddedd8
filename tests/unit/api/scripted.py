"""A pipeline that answers from a script, to test the edge without an engine behind it."""

import asyncio
from collections.abc import Sequence

from pileus.core.errors import PileusError
from pileus.core.records import FinishReason, GenerationRequest, Principal
from pileus.fleet.directory import Directory
from pileus.gateway.records import Delta, Timings, TokenText, Usage
from pileus.scheduling.bounds import Standing

Step = Sequence[Delta] | PileusError | Exception | asyncio.Event

HELLO: tuple[Step, ...] = (
    [Delta(0, "Hello", 1)],
    [Delta(0, " world", 1)],
    [Delta(0, "", 0, finish_reason=FinishReason.STOP)],
)


def spoken(text: str, logprob: float = -0.5) -> TokenText:
    return TokenText(text, text.encode(), logprob, ((text, text.encode(), logprob), ("other", b"other", -3.0)))


class ScriptedGeneration:
    """Gives one step per `next`; waits at an event, raises an error."""

    def __init__(self, pipeline: "ScriptedPipeline", request: GenerationRequest, script: Sequence[Step]) -> None:
        self.request_id = request.id
        self.deployment = "clouds"
        self.created = 1_750_000_000
        self.prompt_tokens = 5
        self.usage = Usage(5, 2, 0)
        self.timings = Timings(queue_s=0.001, prefill_s=0.02, decode_s=0.3, gateway_s=0.0004, total_s=0.3214)
        self._pipeline = pipeline
        self._script = list(script)
        pipeline.running.add(self)

    async def next(self, *, whole: bool = False) -> list[Delta]:
        while self._script:
            match self._script.pop(0):
                case asyncio.Event() as event:
                    self._pipeline.reached.set()
                    await event.wait()
                case Exception() as error:
                    self._pipeline.running.discard(self)
                    raise error
                case deltas:
                    told = self.usage.completion_tokens + sum(delta.tokens for delta in deltas)
                    self.usage = Usage(5, 2, told)
                    return list(deltas)
        self._pipeline.running.discard(self)
        return []

    def cancel(self) -> None:
        if self in self._pipeline.running:
            self._pipeline.running.discard(self)
            self._pipeline.cancelled.append(self.request_id)
        self._pipeline.left.set()


class ScriptedPipeline:
    """Every request gets the same script, unless `scripts` has one for it, in order of arrival."""

    def __init__(self, directory: Directory) -> None:
        self.script: Sequence[Step] = HELLO
        self.scripts: list[Sequence[Step]] = []
        self.refusal: PileusError | None = None
        self.requests: list[tuple[Principal, GenerationRequest]] = []
        self.running: set[ScriptedGeneration] = set()
        self.cancelled: list[str] = []
        self.held = 0  # until a replica is there
        self.reached = asyncio.Event()  # a generation waits at an event of its script
        self.left = asyncio.Event()  # a generation was cancelled
        self._directory = directory

    async def start(self, principal: Principal, request: GenerationRequest) -> ScriptedGeneration:
        self._directory.find(request.model, principal.tenant)
        if self.refusal is not None:
            raise self.refusal
        self.requests.append((principal, request))
        return ScriptedGeneration(self, request, self.scripts.pop(0) if self.scripts else self.script)

    def waiting(self, deployment: str) -> int:
        return self.held

    def standings(self, deployment: str) -> list[Standing]:
        return []
