"""An engine whose events are collected by a thread, so that tests can wait for what they expect."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from pileus.core.ports import Engine
from pileus.core.records import Credit, EngineRequest, Finish, Started, StepOutput, TokenLogprobs

PATIENCE_S = 60.0
Result = TypeVar("Result")


class Answer:
    """All that an engine said about one request."""

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.started: list[Started] = []
        self.tokens: dict[int, list[int]] = {choice.index: [] for choice in request.choices}
        self.logprobs: dict[int, list[TokenLogprobs]] = {choice.index: [] for choice in request.choices}
        self.finishes: dict[int, list[Finish]] = defaultdict(list)
        self.misplaced: list[str] = []  # what came before the start or after the end

    @property
    def finished(self) -> bool:
        return len(self.finishes) == len(self.request.choices)

    @property
    def only(self) -> list[int]:
        [tokens] = self.tokens.values()
        return tokens

    @property
    def finish(self) -> Finish:
        [[finish]] = self.finishes.values()
        return finish


class RunningEngine:
    """`outputs` and the answers grow while the engine runs; `wait` until they are as they should be."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.capabilities = engine.capabilities()
        self.outputs: list[StepOutput] = []
        self.answers: dict[int, Answer] = {}
        self.ended = False
        self._error: Exception | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    @property
    def full_credit(self) -> Credit:
        return Credit(self.capabilities.slots, self.capabilities.kv_blocks, len(self.answers))

    def submit(self, request: EngineRequest) -> Answer:
        """Submit under a fresh id."""
        with self._news:
            answer = Answer(replace(request, id=len(self.answers) + 1))
            self.answers[answer.request.id] = answer
        self.engine.submit(answer.request)
        return answer

    def run(self, *requests: EngineRequest) -> list[Answer]:
        """Submit them together, and wait for all of them to end."""
        answers = [self.submit(request) for request in requests]
        self.wait(lambda: all(answer.finished for answer in answers))
        return answers

    def cancel(self, answer: Answer, choice: int | None = None) -> int:
        """Returns the number of outputs that had come when the engine knew."""
        self.engine.cancel(answer.request.id, choice)
        with self._news:
            return len(self.outputs)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            held = self._news.wait_for(lambda: self._error or condition(), PATIENCE_S)
            if self._error:
                raise self._error
            assert held, "it did not come to pass"

    def at(self, condition: Callable[[], bool], act: Callable[[], Result]) -> Result:
        """Do it as soon as that is so: the engine gets no further than the step that is under way."""
        with self._news:
            self.wait(condition)
            return act()

    def close(self) -> None:
        self.engine.close()
        self._thread.join(PATIENCE_S)

    def _collect(self) -> None:
        try:
            for output in self.engine.events():
                with self._news:
                    self.outputs.append(output)
                    self._enter(output)
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001  # raised again where a test waits
            self._error = error
        with self._news:
            self.ended = True
            self._news.notify_all()

    def _enter(self, output: StepOutput) -> None:
        for started in output.started:
            self.answers[started.request].started.append(started)
        for emission in output.emissions:
            answer = self.answers[emission.request]
            if not answer.started or emission.choice in answer.finishes:
                answer.misplaced.append(f"an emission of choice {emission.choice}")
            answer.tokens[emission.choice] += emission.tokens
            answer.logprobs[emission.choice] += emission.logprobs or ()
        for finish in output.finishes:
            self.answers[finish.request].finishes[finish.choice].append(finish)
