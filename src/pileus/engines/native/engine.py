"""The engine's loop: receive, schedule, run, sample, report. One thread owns everything but the inbox."""

import threading
from collections import deque
from collections.abc import Iterator
from time import perf_counter

from pileus.core.errors import ModelRefused
from pileus.core.ports import AdapterSource, EngineSpec
from pileus.core.records import (
    Capabilities,
    Continuation,
    Emission,
    EngineRequest,
    EngineStats,
    Finish,
    FinishReason,
    Started,
    StepOutput,
)
from pileus.engines.native.batch import Plan, Sampled, assemble
from pileus.engines.native.blocks import BlockManager
from pileus.engines.native.credit import credit_of
from pileus.engines.native.figures import Figures
from pileus.engines.native.graph import BLOCK_SIZE, Graph
from pileus.engines.native.options import NativeOptions
from pileus.engines.native.report import Report
from pileus.engines.native.roster import Roster
from pileus.engines.native.sample import logprobs, sample
from pileus.engines.native.sequence import Sequence, sequences_of, unservable
from pileus.engines.native.shelf import Shelf
from pileus.engines.native.summary import Rows


class NativeEngine:
    """Continuous batching over paged KV blocks on OpenVINO's runtime."""

    def __init__(self, spec: EngineSpec, graph: Graph | None = None) -> None:
        """On that graph where one is given, which is then this engine's alone. Raises `ModelRefused`."""
        if spec.model_path is None:
            raise ModelRefused(f"{spec.model} has no files here: the native engine needs a model that was pulled")
        options: NativeOptions = spec.options
        self._graph = graph or Graph(spec.model_path, options)
        self._blocks = BlockManager(self._graph.kv_blocks, BLOCK_SIZE, sharing=options.prefix_caching)
        kv_tokens = self._graph.kv_blocks * BLOCK_SIZE
        self._wake = threading.Event()
        self._shelf: Shelf | None = None
        if spec.adapters is not None and options.adapters:
            self._shelf = Shelf(
                self._graph,
                spec.adapters,
                slots=options.adapters,
                most_rank=options.adapter_rank,
                on_loaded=self._wake.set,
            )
        self._capabilities = Capabilities(
            model=spec.model,
            max_context=min(options.max_context or spec.context_length or kv_tokens, kv_tokens),
            slots=options.max_sequences,
            kv_blocks=self._graph.kv_blocks,
            block_size=BLOCK_SIZE,
            continuation=Continuation.CONTINUABLE,
            vocab_size=self._graph.vocab_size,
            deterministic=options.deterministic,
            adapters=options.adapters if self._shelf else 0,
        )
        self._inbox: deque[EngineRequest | tuple[int, int | None]] = deque()  # submits and cancels
        self._stalled = False  # nothing goes on until an adapter is loaded
        self._closed = False
        self._next_id = 0
        self._seen = 0
        self._unstarted: set[int] = set()  # requests that no choice has said a token of
        self._report = Report()
        self._figures = Figures(options.max_sequences, self._blocks)
        self._roster = Roster(
            self._blocks,
            self._shelf,
            self._figures,
            self._graph.copy_block,
            slots=options.max_sequences,
            step_tokens=options.step_tokens,
        )

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def submit(self, request: EngineRequest) -> None:
        self._inbox.append(request)
        self._wake.set()

    def cancel(self, request_id: int, choice: int | None = None) -> None:
        self._inbox.append((request_id, choice))
        self._wake.set()

    def load_adapter(self, source: AdapterSource) -> None:
        if self._shelf is None:
            raise ModelRefused(f"this replica of {self._capabilities.model} takes no adapters (option `adapters`)")
        self._shelf.register(source)

    def unload_adapter(self, adapter: str) -> None:
        if self._shelf is not None:
            self._shelf.forget(adapter)

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def stats(self) -> EngineStats:
        return self._figures.told

    def events(self) -> Iterator[StepOutput]:
        while not self._closed:
            self._receive()
            if self._roster.running or (self._roster.waiting and not self._stalled) or self._report.finishes:
                yield self.step()
            else:
                self._wake.wait()
                self._wake.clear()
                self._stalled = False

    def step(self) -> StepOutput:
        """One pass of the loop: what was received becomes a batch, the batch becomes tokens."""
        began, roster = perf_counter(), self._roster
        roster.admit()
        self._stalled = not roster.running
        plan = roster.schedule()
        if roster.running and not plan:
            raise RuntimeError("no sequence can run: each waits for another's blocks")
        planned_tokens = sum(tokens for _, tokens in plan)
        self._figures.tell(roster.running, roster.waiting, planned_tokens, loading=self._loading)
        if plan:
            rows, sampled, infer_s = self._run(plan)
            roster.advance(plan)
            self._say(sampled, sample(rows, [s.draw(row) for s, row in sampled]), rows)
            self._figures.count(steps=1, step_tokens=planned_tokens, infer_s=infer_s, step_s=perf_counter() - began)
        return self._close_step()

    # --- receive ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, EngineRequest):
                self._enqueue(item)
            else:
                self._cancel(*item)
        if self._shelf is not None:
            self._take_adapters(self._shelf)

    def _take_adapters(self, shelf: Shelf) -> None:
        """What was loaded can run; what could not be, or is gone, ends those that wait for it."""
        for loaded in shelf.take():
            if loaded.graph is not None and loaded.bank is not None:
                self._graph.use(loaded.graph, loaded.bank)
            else:
                self._refuse(loaded.adapter, loaded.error)
        for adapter in {s.request.adapter for s in self._roster.waiting if s.request.adapter}:
            if not shelf.knows(adapter):
                self._refuse(adapter, f"the adapter {adapter} is not served any more")

    def _refuse(self, adapter: str, reason: str) -> None:
        for sequence in [s for s in self._roster.waiting if s.request.adapter == adapter]:
            self._unstarted.discard(sequence.request.id)
            self._finish(sequence, FinishReason.ERROR, reason)

    def _enqueue(self, request: EngineRequest) -> None:
        self._seen += 1
        problem = unservable(request, self._capabilities) or self._missing(request.adapter)
        if problem:
            self._report.finishes += [
                Finish(request.id, choice.index, FinishReason.ERROR, error=problem) for choice in request.choices
            ]
            return
        sequences = sequences_of(request, self._next_id, perf_counter())
        self._next_id += len(request.choices)
        self._unstarted.add(request.id)
        self._roster.waiting += sequences

    def _missing(self, adapter: str) -> str:
        if adapter and (self._shelf is None or not self._shelf.knows(adapter)):
            return f"the adapter {adapter} is not loaded here"
        return ""

    def _cancel(self, request_id: int, choice: int | None) -> None:
        for sequence in self._roster.of(request_id):
            if choice is None or (choice == sequence.choice and not sequence.siblings):
                self._finish(sequence, FinishReason.CANCELLED)
            elif sequence.part_with(choice):
                self._report.finishes.append(Finish(request_id, choice, FinishReason.CANCELLED))
        if not self._roster.of(request_id):
            self._unstarted.discard(request_id)

    # --- run --------------------------------------------------------------------------------------------------------

    def _run(self, plan: Plan) -> tuple[Rows, Sampled, float]:
        """The rows to sample, who samples from which, and the seconds in the model's kernels."""
        if self._shelf is not None:
            for pair in self._shelf.draw_together(self._roster.adapters):
                self._graph.swap_slots(*pair)
        batch = assemble(plan, self._blocks.size, self._slot_of)
        began = perf_counter()
        for sequence, _ in plan:
            if sequence.prefill_began_at is None:
                sequence.prefill_began_at = began
        rows = self._graph.run(
            batch.ids,
            batch.positions,
            batch.past,
            batch.begins,
            batch.tables,
            batch.table_begins,
            batch.rows,
            None if batch.greedy else batch.inverse_temperatures,
            batch.slots if batch.adapted else None,
        )
        return rows, batch.sampled, perf_counter() - began

    @property
    def _loading(self) -> int:
        return self._shelf.loading if self._shelf is not None else 0

    def _slot_of(self, adapter: str) -> int:
        assert self._shelf is not None
        return self._shelf.slot(adapter)

    # --- report -----------------------------------------------------------------------------------------------------

    def _say(self, sampled: Sampled, tokens: list[int], rows: Rows) -> None:
        now = perf_counter()
        for (sequence, row), token in zip(sampled, tokens, strict=True):
            params = sequence.request.params
            if sequence.first_token_at is None:
                self._start(sequence, now)
            if token in params.stop_ids:
                self._finish(sequence, FinishReason.STOP)
                continue
            sequence.say(token)
            entry = None if params.logprobs is None else (logprobs(rows, row, token, params.logprobs),)
            self._report.emissions.append(Emission(sequence.request.id, sequence.choice, (token,), entry))
            if sequence.emitted >= params.max_tokens:
                self._finish(sequence, FinishReason.LENGTH)

    def _start(self, sequence: Sequence, now: float) -> None:
        sequence.first_token_at = now
        request = sequence.request
        if request.id in self._unstarted:
            self._unstarted.remove(request.id)
            began = sequence.prefill_began_at or now
            cached = min(sequence.reused, len(request.prompt))
            self._report.started.append(Started(request.id, cached, began - sequence.arrived_at, now - began))
            self._figures.count(
                prompt_tokens=len(request.prompt), prefix_query_tokens=len(request.prompt), prefix_hit_tokens=cached
            )

    def _finish(self, sequence: Sequence, reason: FinishReason, error: str = "") -> None:
        self._roster.drop(sequence)
        decode_s = 0.0 if sequence.first_token_at is None else perf_counter() - sequence.first_token_at
        for choice in (sequence.choice, *(sibling.choice for sibling in sequence.siblings)):
            self._report.finishes.append(Finish(sequence.request.id, choice, reason, decode_s, error))

    def _close_step(self) -> StepOutput:
        report, self._report = self._report, Report()
        self._figures.count(generated_tokens=len(report.emissions))
        running, waiting = self._roster.running, self._roster.waiting
        self._figures.tell(running, waiting, loading=self._loading)
        credit = credit_of(self._capabilities.slots, self._blocks, running, waiting, self._seen)
        return report.output(credit)
