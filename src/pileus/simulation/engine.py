"""The model of an engine: continuous batching in virtual time.

What the native engine's loop does is done here: receive, admit, plan, run. The plan is `scheduling.step`'s own, and
who yields to whom as well. Only running takes no computing: steps that are alike (see `stretch`) pass at once, and the
engine is looked at again when a sequence ends its prompt or its answer, when memory becomes scarce, or when a request
comes, which is received when the step in progress ends.
"""

from math import inf

from pileus.core.records import Lane
from pileus.scheduling.routing import Load
from pileus.scheduling.step import choose_victim, plan_step, urgency
from pileus.simulation.calibration import Calibration
from pileus.simulation.memory import Memory
from pileus.simulation.request import Request
from pileus.simulation.sequence import Sequence
from pileus.simulation.stretch import Stretch

MOST_STEPS = 64  # at once, so that what the router knows of the KV blocks is never older

Plan = list[tuple[Sequence, int]]


class EngineModel:
    """One replica. Times are seconds of the run."""

    def __init__(self, calibration: Calibration, *, most_steps: int = MOST_STEPS) -> None:
        self.preemptions = 0
        self.busy_s = 0.0  # spent in steps
        self.started: list[Request] = []  # those that said their first token here, until somebody takes note
        self._calibration = calibration
        self._most_steps = self._alike = most_steps
        self._memory = Memory(calibration.kv_tokens, calibration.block_size)
        self._inbox: list[Request] = []
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._leaving: list[Sequence] = []  # of these two, those that were withdrawn
        self._batch = 0  # how many of these are in the batch lane
        self._received = 0
        self._plan: Plan = []
        self._stretch: Stretch | None = None
        self._last_tokens = 0  # of the last step

    # --- for the gateway --------------------------------------------------------------------------------------------

    @property
    def wakes_at(self) -> float:
        """When `advance` is due."""
        return inf if self._stretch is None else self._stretch.end

    def submit(self, request: Request, now: float) -> None:
        """It is received when the step in progress ends."""
        self._inbox.append(request)
        if self._stretch is None:
            self._stretch = Stretch(now, 0, 0.0)
        elif self._stretch.steps:
            self._stretch.steps = self._stretch.begun_by(now)

    def withdraw(self, request: Request, now: float) -> None:
        """It leaves before the next step, with what it has said by now; what the step in progress adds is lost."""
        if request in self._inbox:
            self._inbox.remove(request)
            return
        sequence = next(one for one in self._running + self._waiting if one.request is request)
        sequence.leaving = True
        self._leaving.append(sequence)
        assert self._stretch is not None
        said = 0
        if sequence.decoding and any(one is sequence for one, _ in self._plan):
            said = self._said_by(now)
        request.emitted = request.answer_tokens - sequence.left + said
        if self._stretch.steps:
            self._stretch.steps = self._stretch.begun_by(now)

    def load(self) -> Load:
        """What the gateway knows: the credit of the last step, less what was sent since."""
        memory, held = self._memory, len(self._running) + len(self._waiting)
        wanted = sum(memory.blocks(sequence.known) for sequence in self._waiting)
        sent = sum(memory.blocks(request.prompt_tokens) + 1 for request in self._inbox)
        batch = self._in_batch() if self._batch else []
        return Load(
            free_slots=self._calibration.slots - held - len(self._inbox),
            free_kv_blocks=memory.available // self._calibration.block_size - wanted - sent,
            batch_slots=len(batch),
            batch_kv_blocks=sum(memory.blocks(sequence.known) for sequence in batch),
        )

    def advance(self, now: float) -> list[Request]:
        """The steps up to now are done, and the next begin. Returns the requests that are answered."""
        ended = self._run(self._stretch.steps, now) if self._stretch else []
        self._part()
        self._receive()
        self._admit()
        self._alike = self._most_steps
        self._plan = self._schedule()
        self._stretch = self._begin(now) if self._plan else None
        return ended

    def lose(self, now: float) -> list[Request]:
        """It dies. Returns the requests that were on it, with what they have said."""
        if self._stretch and self._stretch.steps:
            self._run(self._said_by(now), now)
        self._stretch = None
        self._part()
        sequences = self._running + self._waiting
        for sequence in sequences:
            sequence.request.emitted = sequence.request.answer_tokens - sequence.left
        return [sequence.request for sequence in sequences] + self._inbox

    def _said_by(self, now: float) -> int:
        """Steps of the stretch of which the gateway has heard: never the last, whose end is an event of its own."""
        stretch = self._stretch
        return min(stretch.ended_by(now), stretch.steps - 1) if stretch and stretch.steps else 0

    # --- receive ----------------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """Those that were given up go; what they computed can be found again."""
        for sequence in self._leaving:
            if sequence.opened:
                self._memory.close(sequence, park=True)
            (self._running if sequence in self._running else self._waiting).remove(sequence)
            self._batch -= sequence.lane is Lane.BATCH
        self._leaving = []

    def _receive(self) -> None:
        for request in self._inbox:
            self._received += 1
            self._batch += request.lane is Lane.BATCH
            self._waiting.append(Sequence(request, self._received))
        self._inbox = []

    # --- schedule ---------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give slots and memory to those that wait, most urgent first, as long as they fit."""
        self._waiting.sort(key=urgency)
        while self._waiting:
            sequence = self._waiting[0]
            if len(self._running) == self._calibration.slots or not self._memory.open(sequence):
                batch = [other for other in self._running if other.lane is Lane.BATCH]
                if sequence.lane is Lane.BATCH or not batch:
                    return
                self._preempt(choose_victim(batch))
                self._waiting.sort(key=urgency)
                continue
            sequence.decoding = False
            self._running.append(self._waiting.pop(0))

    def _schedule(self) -> Plan:
        """Who computes how much in the next step, each with room for it."""
        prefilling = [sequence for sequence in self._running if not sequence.decoding]
        for sequence in prefilling:
            sequence.wanted_at = 0
        for sequence in prefilling:
            self._memory.look_ahead(sequence)
        planned = plan_step(self._running, self._calibration.step_tokens)
        if self._running and not planned:
            raise RuntimeError("no sequence can run: each waits for another's blocks")
        full = sum(sequence.decoding and sequence.computed == sequence.room for sequence, _ in planned)
        if full * self._calibration.block_size <= self._memory.available:
            return planned
        self._alike = 1  # who yields changes what others can do
        plan: Plan = []
        for sequence, tokens in planned:
            # Whoever is written into the plan keeps its blocks: victims come from those that are not.
            if sequence.opened and self._make_room(sequence, plan):
                plan.append((sequence, tokens))
        return plan

    def _make_room(self, sequence: Sequence, plan: Plan) -> bool:
        """A block for what the sequence writes next; preempts others, or itself, where there is none."""
        while sequence.decoding and sequence.computed == sequence.room and not self._memory.extend(sequence):
            planned = {id(other) for other, _ in plan}
            victim = choose_victim(other for other in self._running if id(other) not in planned)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        self._memory.close(victim, park=True)
        self._running.remove(victim)
        self._waiting.append(victim)
        self.preemptions += 1

    # --- run --------------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> Stretch:
        """The steps that this plan is good for."""
        told = self._calibration
        steps = self._alike
        prefill = decodes = read = growth = 0
        attended = 0.0
        for sequence, tokens in self._plan:
            steps = min(steps, sequence.alike(tokens))
            if sequence.decoding:
                decodes += 1
                read += sequence.computed
            else:
                prefill += tokens
                attended += tokens * (sequence.computed + tokens / 2)
                growth += tokens * tokens
        first_s = told.step_s + told.prefill_token_s * prefill + told.decode_sequence_s * decodes
        first_s += told.kv_read_s * read + told.attention_s * attended + (told.prefill_s if prefill else 0.0)
        growth_s = told.kv_read_s * decodes + told.attention_s * growth
        tokens = prefill + decodes
        extra_s = told.change_s if tokens != self._last_tokens else 0.0
        self._last_tokens = tokens
        return Stretch(now, self._that_fit(steps, decodes), first_s, growth_s, extra_s)

    def _that_fit(self, steps: int, decodes: int) -> int:
        """As many of these steps as there is memory for; for one there is."""
        block = self._calibration.block_size
        if decodes * (steps + block) <= self._memory.available or steps == 1:
            return steps
        rooms = [sequence.room - sequence.computed for sequence, _ in self._plan if sequence.decoding]
        fits, too_many = 1, steps + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            blocks = sum(self._memory.blocks(middle - room) for room in rooms if room < middle)
            if blocks * block <= self._memory.available:
                fits = middle
            else:
                too_many = middle
        return fits

    def _run(self, steps: int, now: float) -> list[Request]:
        """So many steps of the plan pass; the answers that they complete."""
        assert self._stretch is not None
        self.busy_s += self._stretch.length(steps)
        for sequence, tokens in self._plan:
            if sequence.decoding:
                sequence.computed += steps
                sequence.known += steps
                sequence.left -= steps
                if sequence.computed > sequence.room:
                    self._memory.grow(sequence, sequence.computed)
            else:
                sequence.computed += steps * tokens
                self._memory.passed(sequence)
                if sequence.computed == sequence.known:
                    self._say_first(sequence, now)
        return [self._finish(sequence) for sequence, _ in self._plan if sequence.left == 0 and not sequence.leaving]

    def _say_first(self, sequence: Sequence, now: float) -> None:
        """The first token since it got its slot, and perhaps of all."""
        sequence.decoding = True
        sequence.pending = 1
        sequence.known += 1
        sequence.left -= 1
        if sequence.leaving:
            return
        request = sequence.request
        if not sequence.started:
            sequence.started = True
            self.started.append(request)
        if request.first_at is None:
            request.first_at = now
            request.cached_tokens = min(sequence.reused, request.prompt_tokens)

    def _finish(self, sequence: Sequence) -> Request:
        self._memory.close(sequence)
        self._running.remove(sequence)
        self._batch -= sequence.lane is Lane.BATCH
        return sequence.request

    def _in_batch(self) -> list[Sequence]:
        return [sequence for sequence in self._running + self._waiting if sequence.lane is Lane.BATCH]
