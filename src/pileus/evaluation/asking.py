"""Puts a task's questions to a model through the pipeline, in the batch lane, and keeps each answer as it comes: a job
that is tried again asks only what has no answer yet."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from pileus.core.errors import DeadlineExceeded, Overloaded, PileusError, ServiceError
from pileus.core.ids import new_id
from pileus.core.records import GenerationOptions, GenerationRequest, Lane, Principal
from pileus.evaluation.tasks import Item, Task
from pileus.gateway.pipeline import Pipeline

_TRIES: Final = 4  # of a question that the service could not answer
_LONGEST_WAIT_S: Final = 30.0
_SEED: Final = 0


class Answer(Struct, frozen=True, kw_only=True):
    """What came of one question."""

    model: str
    task: str
    item: int
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float | None = None
    total_s: float = 0.0
    error: str = ""  # why there is no answer; counts as a wrong one


class Asker(Protocol):
    """Makes a model answer."""

    async def ask(self, model: str, task: Task, item: Item) -> Answer:
        """Greedily, so that the same model says the same again. Raises `PileusError`."""
        ...


class PipelineAsker:
    """Meets `Asker`."""

    def __init__(self, pipeline: Pipeline, principal: Principal) -> None:
        self._pipeline = pipeline
        self._principal = principal

    async def ask(self, model: str, task: Task, item: Item) -> Answer:
        request = GenerationRequest(
            id=new_id("eval"),
            model=model,
            options=GenerationOptions(max_tokens=task.max_tokens, temperature=0.0, seed=_SEED),
            messages=() if task.raw else item.messages,
            prompt="\n".join(message.content for message in item.messages) if task.raw else None,
            lane=Lane.BATCH,
        )
        generation = await self._pipeline.start(self._principal, request)
        texts: list[str] = []
        try:
            while deltas := await generation.next(whole=True):
                texts += [delta.text for delta in deltas]
        finally:
            generation.cancel()
        usage = generation.usage
        return Answer(
            model=model,
            task=task.name,
            item=-1,
            text="".join(texts),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            ttft_s=generation.stopwatch.ttft_s,
            total_s=generation.timings.total_s,
        )


class Journal:
    """Answers, line by line in a file; what a crash left of a line is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[tuple[str, str, int], Answer] = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                self._note(msgspec.json.decode(line, type=Answer))
            except msgspec.MsgspecError:
                continue

    def get(self, model: str, task: str, item: int) -> Answer | None:
        return self._found.get((model, task, item))

    def add(self, answer: Answer) -> None:
        with self._path.open("ab") as lines:
            lines.write(b"\n" * self._is_torn() + msgspec.json.encode(answer) + b"\n")
        self._note(answer)

    def _is_torn(self) -> bool:
        """Whether the file's last line has no end."""
        if self._found or not self._path.exists() or not self._path.stat().st_size:
            return False
        return not self._path.read_bytes().endswith(b"\n")

    def _note(self, answer: Answer) -> None:
        self._found[answer.model, answer.task, answer.item] = answer


async def ask_all(
    asker: Asker,
    model: str,
    task: Task,
    journal: Journal,
    *,
    parallel: int,
    told: Callable[[int], None],
    stop: Callable[[], bool],
) -> Sequence[Answer] | None:
    """An answer for each item, in their order; `told` hears how many there are. None where it was to stop before."""
    places = asyncio.Semaphore(parallel)
    known = [journal.get(model, task.name, number) for number in range(len(task.items))]
    answered = sum(answer is not None for answer in known)

    async def one(number: int, item: Item) -> None:
        nonlocal answered
        async with places:
            if stop():
                return
            answer = await _try(asker, model, task, item)
            known[number] = answer = msgspec.structs.replace(answer, item=number)
            journal.add(answer)
            answered += 1
            told(answered)

    async with asyncio.TaskGroup() as group:
        for number, item in enumerate(task.items):
            if known[number] is None:
                group.create_task(one(number, item))
    answers = [answer for answer in known if answer is not None]
    return answers if len(answers) == len(known) else None


async def _try(asker: Asker, model: str, task: Task, item: Item) -> Answer:
    """Patiently: who has no room now may have it soon. What is refused for good is an answer, too."""
    error: PileusError | None = None
    for attempt in range(_TRIES):
        try:
            return await asker.ask(model, task, item)
        except (Overloaded, DeadlineExceeded) as refusal:
            error = refusal
            await asyncio.sleep(min(getattr(refusal, "retry_after_s", 1.0), _LONGEST_WAIT_S))
        except ServiceError as refusal:
            error = refusal
            await asyncio.sleep(min(2.0**attempt, _LONGEST_WAIT_S))
        except PileusError as refusal:
            error = refusal
            break
    assert error is not None
    return Answer(model=model, task=task.name, item=-1, error=error.message)
