"""A batch's life in a job worker: validating, in progress, finalizing. Each lease goes on where the last one's last
checkpoint is."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from pileus.batch.answering import Asker
from pileus.batch.endpoint import Endpoint
from pileus.batch.files import is_intact, write_file
from pileus.batch.finalising import ResultFiles, write_results
from pileus.batch.intake import Input, take_in
from pileus.batch.journal import Journal
from pileus.batch.plan import Plan
from pileus.batch.records import (
    BatchResult,
    Counts,
    Extent,
    LineProblem,
    Phase,
    TokenSums,
    decode_checkpoint,
    decode_spec,
)
from pileus.batch.runner import Runner
from pileus.batch.validation import Validation
from pileus.config.settings import Batches
from pileus.core.clock import Clock
from pileus.core.errors import NotFound
from pileus.core.records import Principal
from pileus.fleet.directory import Directory
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.store.blobs import Blobs
from pileus.store.job_table import Wish

COMMIT_S: Final = 0.25  # results that come within this are committed together
_GRACE_S: Final = 10.0  # for lines under way, when the batch is to pause
_MOST_PENDING_BYTES: Final = 4 << 20  # of results that wait to be committed
_LEAST_LEFT_S: Final = 60.0  # for a line: that the batch's time is over is for the owner to say, and it cancels them
_CLOSING: Final = (Wish.CANCEL, Wish.EXPIRE)


class Workplace(Struct, frozen=True, kw_only=True):
    """What all batches of a worker process have in common."""

    settings: Batches
    max_line_bytes: int
    endpoints: Mapping[str, Endpoint]  # by path
    blobs: Blobs
    directory: Directory
    principal: Callable[[str], Principal | None]  # by key id
    clock: Clock
    commit_s: float = COMMIT_S
    grace_s: float = _GRACE_S


class BatchHandler:
    """Meets `jobs.handler.Handler`."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace

    async def __call__(self, context: Context) -> bytes | Yielded:
        return await _Lease(self._workplace, context).run()


class _Stopped(Exception):
    """Something was asked of the batch while its input was checked."""


class _Lease:
    """One lease of one batch."""

    def __init__(self, workplace: Workplace, context: Context) -> None:
        self._workplace = workplace
        self._context = context
        self._folder = context.folder
        self._id, self._fence = context.job.id, context.job.fence
        self._spec = decode_spec(context.job.spec)
        self._state = decode_checkpoint(context.job.checkpoint)
        self._usage = self._state.usage  # with what is not committed yet
        assert context.job.due_at is not None
        clock = workplace.clock  # a wall clock that is set moves `due_at` on record, and not here
        self._ends_at = clock.monotonic() + context.job.due_at - clock.wall()

    async def run(self) -> bytes | Yielded:
        if self._state.plan is None and self._context.wish is Wish.CANCEL:
            return await self._nothing()
        try:
            plan = await self._planned()
        except _Stopped:
            return await self._nothing() if self._context.wish is Wish.CANCEL else YIELDED
        journal = await asyncio.to_thread(Journal.recover, self._folder, self._fence, len(plan), self._state.segments)
        assert self._state.input is not None
        source = Input(self._folder / self._state.input.name, plan)
        try:
            if self._context.wish is Wish.NONE and journal.done < len(plan):
                await self._answer(plan, journal, source)
            if journal.done < len(plan) and self._context.wish not in _CLOSING:
                return YIELDED
            return await self._finalise(plan, journal, source)
        finally:
            source.close()

    # --- validating -------------------------------------------------------------------------------------------------

    async def _planned(self) -> Plan:
        """The plan that a former lease made, where all is still there; else a new one. Raises `JobFailed` for an input
        that is not in order, and `_Stopped`."""
        plan, copy = self._state.plan, self._state.input
        if plan is not None and copy is not None:
            intact = await asyncio.to_thread(lambda: is_intact(self._folder, plan) and is_intact(self._folder, copy))
            if intact:
                return Plan.load(await asyncio.to_thread((self._folder / plan.name).read_bytes))
        return await self._validate()

    async def _validate(self) -> Plan:
        began = self._workplace.clock.monotonic()
        self._context.progress(Phase.VALIDATING, 0, 0)
        validation = self._validation()
        try:
            taken = await take_in(
                self._workplace.blobs,
                self._spec.blob,
                self._folder,
                f"input.{self._fence}",
                validation,
                stopped=lambda: self._context.wish in (Wish.CANCEL, Wish.PAUSE),
            )
        except NotFound:
            raise JobFailed("The content of the input file is gone.", code="invalid_batch") from None
        if taken is None:
            raise _Stopped
        if taken.plan is None:
            await self._refuse(tuple(validation.problems))
            raise JobFailed(_summary(validation.problems), code="invalid_batch")
        stored = await asyncio.to_thread(write_file, self._folder, f"plan.{self._fence}", taken.plan.dump())
        took_s = self._workplace.clock.monotonic() - began
        self._context.log(f"validated {len(taken.plan)} lines in {took_s:.1f} s")
        await self._begin(taken.plan, stored, taken.input)
        return taken.plan

    def _validation(self) -> Validation:
        settings, endpoint = self._workplace.settings, self._workplace.endpoints.get(self._spec.endpoint)
        if endpoint is None:
            raise JobFailed(f"The endpoint {self._spec.endpoint} takes no batches.", code="invalid_batch")
        return Validation(
            endpoint,
            self._spec.endpoint,
            max_lines=settings.max_lines,
            max_bytes=settings.max_bytes,
            max_line_bytes=self._workplace.max_line_bytes,
            reorder=settings.reorder,
        )

    async def _begin(self, plan: Plan, stored: Extent, copy: Extent) -> None:
        self._state = replace(
            self._state,
            phase=Phase.IN_PROGRESS,
            in_progress_at=self._state.in_progress_at or self._workplace.clock.wall(),
            model=plan.deployments[0] if len(plan.deployments) == 1 else None,
            plan=stored,
            input=copy,
            counts=replace(self._state.counts, total=len(plan)),
            problems=(),
        )
        await self._checkpoint()

    async def _refuse(self, problems: tuple[LineProblem, ...]) -> None:
        self._state = replace(self._state, problems=problems)
        await self._checkpoint()

    # --- in progress ------------------------------------------------------------------------------------------------

    async def _answer(self, plan: Plan, journal: Journal, source: Input) -> None:
        """Until every line has a committed result, or something else is asked."""
        began, before = self._workplace.clock.monotonic(), journal.done
        if before:
            self._context.log(f"goes on: {before} of {len(plan)} lines are done")
        runner = self._runner(plan, journal, source)
        running = asyncio.ensure_future(runner.run())
        committing = asyncio.ensure_future(self._commit_often(journal, running, runner))
        obeying = asyncio.ensure_future(self._obey(runner))
        try:
            await asyncio.gather(running, committing)
        finally:
            tasks = (running, committing, obeying)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        took_s = self._workplace.clock.monotonic() - began
        lines = journal.done - before
        self._context.log(f"ran {lines} lines in {took_s:.1f} s, {lines / max(took_s, 1e-3):.1f} per second")

    def _runner(self, plan: Plan, journal: Journal, source: Input) -> Runner:
        asker = self._asker()
        directory = self._workplace.directory

        async def run_line(place: int) -> None:
            result, sums = await asker.ask(place, source.line(place))
            self._usage += sums
            journal.add(result)

        return Runner(
            [(deployment, place) for deployment, place in plan.turns() if place not in journal],
            run_line,
            slots=lambda name: sum(link.capabilities.slots for link in directory.ready(name)),
            may_begin=lambda: journal.pending_bytes < _MOST_PENDING_BYTES,
        )

    def _asker(self) -> Asker:
        job, clock = self._context.job, self._workplace.clock
        principal = self._workplace.principal(job.key_id)
        if principal is None:
            raise JobFailed(f"The key {job.key_id}, which submitted this batch, is not known any more.")

        def left_s() -> float:
            return max(self._ends_at - clock.monotonic(), _LEAST_LEFT_S)

        return Asker(job.id, self._workplace.endpoints[self._spec.endpoint], principal, left_s)

    async def _obey(self, runner: Runner) -> None:
        wish = await self._context.wished()
        await runner.stop(self._workplace.grace_s if wish is Wish.PAUSE else 0.0)

    async def _commit_often(self, journal: Journal, running: "asyncio.Future[None]", runner: Runner) -> None:
        """Return when all that ran is committed."""
        while True:
            over = running.done()
            if results := journal.take():
                usage = self._usage
                group = await asyncio.to_thread(journal.write, results)
                await self._commit(journal, group.extent, sum(each.answered for each in results), len(results), usage)
                journal.committed(group)
            elif over:
                return
            runner.look()
            await asyncio.wait({running}, timeout=self._workplace.commit_s)

    async def _commit(self, journal: Journal, own: Extent, answered: int, lines: int, usage: TokenSums) -> None:
        others = tuple(segment for segment in self._state.segments if segment.name != own.name)
        counts = Counts(self._state.counts.total, journal.answered + answered, journal.failed + lines - answered)
        self._state = replace(self._state, segments=(*others, own), counts=counts, usage=usage)
        await self._checkpoint()

    # --- finalizing -------------------------------------------------------------------------------------------------

    async def _finalise(self, plan: Plan, journal: Journal, source: Input) -> bytes:
        """The two files, and what the job leaves. Lines that never ran are told as expired; a cancelled batch leaves
        them out."""
        now, wish = self._workplace.clock.wall(), self._context.wish
        cancelling_at = self._state.cancelling_at or (now if wish is Wish.CANCEL else None)
        self._state = replace(
            self._state,
            phase=Phase.FINALIZING,
            finalizing_at=self._state.finalizing_at or now,
            cancelling_at=cancelling_at,
        )
        await self._checkpoint()
        expires = wish is Wish.EXPIRE
        async with ResultFiles(self._workplace.blobs, f"batches/{self._id}/{self._fence}") as files:
            written = await write_results(
                journal,
                len(plan),
                files,
                batch_id=self._id,
                unfinished=source if expires else None,
                progress=lambda done: self._context.progress(Phase.FINALIZING, done, len(plan)),
            )
        failed = journal.failed + (len(plan) - journal.done if expires else 0)
        counts = Counts(len(plan), journal.answered, failed)
        self._context.log(f"finished: {counts.completed} of {counts.total} lines answered, {counts.failed} failed")
        return encode(
            BatchResult(
                output=written.get("output"), errors=written.get("errors"), counts=counts, usage=self._state.usage
            )
        )

    async def _nothing(self) -> bytes:
        """The result of a batch that ended before anything of it ran."""
        self._state = replace(self._state, cancelling_at=self._workplace.clock.wall())
        await self._checkpoint()
        return encode(BatchResult(output=None, errors=None, counts=self._state.counts, usage=TokenSums()))

    async def _checkpoint(self) -> None:
        counts = self._state.counts
        done = counts.completed + counts.failed
        await self._context.checkpoint(encode(self._state), self._state.phase, done, counts.total)


def _summary(problems: list[LineProblem]) -> str:
    first = problems[0]
    where = "" if first.line is None else f"line {first.line}: "
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"The input file is not in order: {where}{first.message}{more}"
