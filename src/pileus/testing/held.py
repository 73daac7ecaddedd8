"""What the fake engine holds for its requests, and which of them it refuses."""

from collections import OrderedDict
from collections.abc import Collection

from pileus.core.records import EngineRequest, FinishReason, Lane
from pileus.testing.options import FakeOptions, Refuse


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


class FakePrefixCache:
    """Hashes of the prompts' beginnings, in whole blocks; those that were used last, up to the number of blocks."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self._blocks = blocks
        self._block_size = block_size
        self._chains: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._chains)

    def take(self, request: EngineRequest) -> int:
        """How much of the prompt it holds, in whole blocks and never all of it; it then holds it."""
        size, prompt = self._block_size, request.prompt
        chain, cached = hash((request.salt, request.adapter)), 0
        for start in range(0, len(prompt) - size + 1, size):
            chain = hash((chain, prompt[start : start + size]))
            if cached == start and chain in self._chains:
                cached = start + size
            self._chains[chain] = None
            self._chains.move_to_end(chain)
        while len(self._chains) > self._blocks:
            self._chains.popitem(last=False)
        return min(cached, (len(prompt) - 1) // size * size)


def objection(request: EngineRequest, options: FakeOptions, adapters: Collection[str]) -> str:
    """Why the request can never run; empty where it can."""
    if request.adapter and request.adapter not in adapters:
        return f"the adapter {request.adapter} is not loaded here"
    if not request.prompt:
        return "the prompt is empty"
    longest = len(request.prompt) + max(len(choice.emitted) for choice in request.choices)
    if longest >= options.max_context:
        return f"{longest} tokens leave no room in a context of {options.max_context}"
    if len(request.choices) > options.slots:
        return f"{len(request.choices)} choices need more than {options.slots} slots"
    if any(isinstance(fault, Refuse) and fault.prompt_token in request.prompt for fault in options.faults):
        return "the prompt contains a token that this engine was told to refuse"
    return ""
