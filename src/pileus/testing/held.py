"""What the fake engine holds for its requests."""

from pileus.core.records import EngineRequest, FinishReason, Lane


class FakeChoice:
    """One sequence: it says the token at `place`, then at the next place, until `end`."""

    __slots__ = ("blocks", "end", "ending", "first_s", "index", "logprobs", "place", "request_id", "stop_ids")

    def __init__(self, request_id: int, index: int, place: int, end: int, ending: FinishReason, blocks: int) -> None:
        self.request_id = request_id
        self.index = index
        self.place = place
        self.end = end
        self.ending = ending
        self.blocks = blocks  # of its own tokens
        self.stop_ids: frozenset[int] = frozenset()  # those that it could say
        self.logprobs: int | None = None
        self.first_s = 0.0


class FakeRequest:
    """What one request holds until its last choice has ended."""

    __slots__ = ("choices", "number", "prompt_blocks", "received_s", "request", "started")

    def __init__(
        self, request: EngineRequest, choices: list[FakeChoice], prompt_blocks: int, received_s: float, number: int
    ) -> None:
        self.request = request
        self.number = number  # in the order of arrival
        self.started = False
        self.choices = {choice.index: choice for choice in choices}  # unfinished
        self.prompt_blocks = prompt_blocks
        self.received_s = received_s

    @property
    def lane(self) -> Lane:
        return self.request.lane

    @property
    def arrival(self) -> int:
        return self.number

    @property
    def pending(self) -> int:
        return 1

    @property
    def blocks(self) -> int:
        return self.prompt_blocks + sum(choice.blocks for choice in self.choices.values())
