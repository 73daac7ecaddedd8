"""A request on a replica, as the step scheduler sees it."""

from pileus.simulation.request import Request


class Sequence:
    """Meets `scheduling.step.Runnable`. It computes the tokens it knows, then says one in each step."""

    __slots__ = (
        "arrival",
        "computed",
        "decoding",
        "known",
        "lane",
        "leaving",
        "left",
        "marked",
        "opened",
        "parked",
        "pending",
        "request",
        "reused",
        "room",
        "started",
        "wanted_at",
    )

    def __init__(self, request: Request, arrival: int) -> None:
        self.request = request
        self.lane = request.lane
        self.arrival = arrival
        self.known = request.prompt_tokens + request.emitted  # tokens of prompt and answer so far
        self.left = request.answer_tokens - request.emitted  # still to be said
        self.pending = 0  # tokens that the next step may compute; set before each plan
        self.computed = 0  # leading tokens whose keys and values exist
        self.reused = 0  # of these, found computed
        self.decoding = False  # all that it knew when it got its slot is computed
        self.started = False  # it has said a token on this replica
        self.leaving = False  # it was given up: what it still says is lost
        # Set by the memory:
        self.opened = False  # it holds memory
        self.room = 0  # tokens that fit into what it holds
        self.marked = 0  # whole blocks of its prompt that it has passed
        self.parked = 0  # tokens that were computed when it lost its slot
        self.wanted_at = 0  # another waits until it has computed so many tokens; 0 is nobody

    def alike(self, tokens: int) -> int:
        """For how many steps its plan stays the same, with so many tokens in each."""
        if self.decoding:
            return self.left
        steps = self.pending // tokens if tokens > 1 else max(1, self.pending - 1)
        if self.wanted_at > self.computed:
            steps = min(steps, -(-(self.wanted_at - self.computed) // tokens))
        return steps
