"""One choice of one request, from arrival to its finish."""

from dataclasses import dataclass, field
from hashlib import blake2b

from pileus.core.records import Capabilities, EngineRequest, Lane
from pileus.engines.native.blocks import Table
from pileus.engines.native.sample import Draw, History, penalises


@dataclass(slots=True, eq=False)
class Sequence:
    """A choice's tokens and how far their keys and values are computed."""

    id: int
    request: EngineRequest
    choice: int
    tokens: list[int]  # prompt, then emitted
    arrival: int
    arrived_at: float
    table: Table | None = None
    computed: int = 0  # leading tokens whose KV exists
    reused: int = 0  # of these, found computed by another
    own: int = 0  # leading tokens that it had computed or found before it was preempted
    pending: int = 0  # tokens that the next step may compute; set by the engine before it plans
    siblings: list["Sequence"] = field(default_factory=list)  # fork from this one when its prompt is prefilled
    history: History | None = None
    prefill_began_at: float | None = None
    first_token_at: float | None = None

    @property
    def lane(self) -> Lane:
        return self.request.lane

    @property
    def salt(self) -> bytes:
        """An adapter's keys and values are its own. However long its name is, this is a key of a hash."""
        salt, adapter = self.request.salt, self.request.adapter
        return blake2b(adapter.encode(), key=salt, digest_size=32).digest() if adapter else salt

    @property
    def emitted(self) -> int:
        """Tokens of the answer so far, those from before a resume included."""
        return len(self.tokens) - len(self.request.prompt)

    def say(self, token: int) -> None:
        """Append a sampled token."""
        self.tokens.append(token)
        if self.history is not None:
            self.history.counts[token] = self.history.counts.get(token, 0) + 1

    def part_with(self, choice: int) -> bool:
        """Drop a choice that has not forked yet. Where it is this sequence's own, a sibling's takes its place: until
        they fork they differ in nothing else. False where it is none of these."""
        for sibling in self.siblings:
            if choice == self.choice:
                self.choice, sibling.choice = sibling.choice, self.choice
            if choice == sibling.choice:
                self.siblings.remove(sibling)
                return True
        return False

    def draw(self, row: int) -> Draw:
        """The choice of this sequence's next token from that row."""
        return Draw(row, self.request.params, self.choice, self.emitted, self.history)


def unservable(request: EngineRequest, capabilities: Capabilities) -> str:
    """Why it can never run here; empty where it can."""
    longest = max((len(choice.emitted) for choice in request.choices), default=0)
    if not request.prompt or not request.choices:
        return "the prompt is empty"
    if len(request.prompt) + max(request.params.max_tokens, longest) > capabilities.max_context:
        return f"prompt and answer exceed the context of {capabilities.max_context} tokens"
    if len(request.choices) > capabilities.slots:
        return f"{len(request.choices)} choices exceed the {capabilities.slots} slots of this replica"
    if not 0 <= min(request.prompt) <= max(request.prompt) < capabilities.vocab_size:
        return "the prompt has a token outside the vocabulary"
    return ""


def sequences_of(request: EngineRequest, first_id: int, now: float) -> list[Sequence]:
    """One sequence per choice. Fresh choices follow the first of them, which prefills the prompt for all."""
    sequences: list[Sequence] = []
    leader: Sequence | None = None
    for offset, choice in enumerate(request.choices):
        tokens = [*request.prompt, *choice.emitted]
        sequence = Sequence(first_id + offset, request, choice.index, tokens, first_id, now)
        if penalises(request.params):
            sequence.history = _history(request, choice.emitted)
        if choice.emitted or leader is None:
            sequences.append(sequence)
            leader = leader or (None if choice.emitted else sequence)
        else:
            leader.siblings.append(sequence)
    return sequences


def _history(request: EngineRequest, emitted: tuple[int, ...]) -> History:
    counts: dict[int, int] = {}
    for token in emitted:
        counts[token] = counts.get(token, 0) + 1
    return History(frozenset(request.prompt), counts)
