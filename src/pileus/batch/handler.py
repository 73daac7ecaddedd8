"""A batch's life in a job worker: validating, in progress, finalizing. Each lease goes on where the last one's last
checkpoint is."""

import asyncio
from collections import defaultdict
from typing import Final

from msgspec.json import encode
from msgspec.structs import replace

from pileus.batch.ending import CANCELLED, EXPIRED, Ending, LineError, key_closed
from pileus.batch.files import is_intact, write_file
from pileus.batch.finalising import ResultFiles, write_results
from pileus.batch.intake import Input, Intake, take_in
from pileus.batch.journal import Journal
from pileus.batch.plan import Plan
from pileus.batch.record import Record
from pileus.batch.records import BatchResult, Counts, Extent, LineProblem, Phase, ResultFile, TokenSums, decode_spec
from pileus.batch.validation import Validation
from pileus.batch.waiting import Stopped, Waiting
from pileus.batch.working import Working
from pileus.batch.workplace import Workplace
from pileus.core.errors import NotFound
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.store.job_table import Wish

_CLOSING: Final = (Wish.CANCEL, Wish.EXPIRE)
_INTERRUPTING: Final = (Wish.CANCEL, Wish.PAUSE)  # while nothing is done that could be kept


class BatchHandler:
    """Meets `jobs.handler.Handler`."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._endings: defaultdict[str, set[Ending]] = defaultdict(set)  # of the batches at work, by key id

    def close_key(self, key_id: str, reason: str) -> None:
        """The batches of that key have lost their right; what is answered is kept."""
        for ending in tuple(self._endings.get(key_id, ())):
            ending.come(key_closed(reason))

    async def __call__(self, context: Context) -> bytes | Yielded:
        ending, key_id = Ending(), context.job.key_id
        self._endings[key_id].add(ending)
        try:
            return await _Lease(self._workplace, context, ending).run()
        finally:
            self._endings[key_id].discard(ending)
            if not self._endings[key_id]:
                del self._endings[key_id]


class _Lease:
    """One lease of one batch."""

    def __init__(self, workplace: Workplace, context: Context, ending: Ending) -> None:
        self._workplace = workplace
        self._context = context
        self._ending = ending
        self._folder = context.folder
        self._id, self._fence = context.job.id, context.job.fence
        self._spec = decode_spec(context.job.spec)
        self._record = Record(context)
        self._waiting = Waiting(context, workplace.clock)
        self._working = Working(workplace, context, self._record, self._waiting, ending)

    async def run(self) -> bytes | Yielded:
        if self._record.state.plan is None and self._context.wish is Wish.CANCEL:
            return await self._nothing()
        try:
            plan = await self._planned()
        except Stopped:
            return await self._nothing() if self._context.wish is Wish.CANCEL else YIELDED
        state = self._record.state
        journal = await asyncio.to_thread(Journal.recover, self._folder, self._fence, len(plan), state.segments)
        assert state.input is not None
        source = Input(self._folder / state.input.name, plan)
        try:
            if self._context.wish is Wish.NONE and self._ending.reason is None and journal.done < len(plan):
                await self._working.run(plan, journal, source)
            if journal.done < len(plan) and self._goes_on:
                return YIELDED
            return await self._finalise(plan, journal, source)
        except Stopped:
            return YIELDED
        finally:
            source.close()

    @property
    def _goes_on(self) -> bool:
        """Whether the lines that are left shall run in another lease."""
        wish = self._context.wish
        return wish is Wish.PAUSE or (wish is Wish.NONE and self._ending.reason is None)

    # --- validating -------------------------------------------------------------------------------------------------

    async def _planned(self) -> Plan:
        """The plan that a former lease made, where all is still there; else a new one. Raises `JobFailed` for an input
        that is not in order, and `Stopped`."""
        plan, copy = self._record.state.plan, self._record.state.input
        if plan is not None and copy is not None:
            intact = await asyncio.to_thread(lambda: is_intact(self._folder, plan) and is_intact(self._folder, copy))
            if intact:
                return Plan.load(await asyncio.to_thread((self._folder / plan.name).read_bytes))
        return await self._validate()

    async def _validate(self) -> Plan:
        began = self._workplace.clock.monotonic()
        self._context.progress(Phase.VALIDATING, 0, 0)
        validation, taken = await self._waiting.patiently(self._take_in, _INTERRUPTING)
        if taken is None:
            raise Stopped
        plan = taken.plan
        if plan is None:
            await self._record.save(problems=tuple(validation.problems))
            raise JobFailed(_summary(validation.problems), code="invalid_batch")
        stored = await self._waiting.patiently(lambda: self._store(plan), _INTERRUPTING)
        took_s = self._workplace.clock.monotonic() - began
        self._context.log(f"validated {len(plan)} lines in {took_s:.1f} s")
        await self._begin(plan, stored, taken.input)
        return plan

    async def _take_in(self) -> tuple[Validation, Intake | None]:
        """The input, copied and checked; without it where that was interrupted."""
        validation = self._validation()
        try:
            taken = await take_in(
                self._workplace.blobs,
                self._spec.blob,
                self._folder,
                f"input.{self._fence}",
                validation,
                stopped=lambda: self._context.wish in _INTERRUPTING,
            )
        except NotFound:
            raise JobFailed("The content of the input file is gone.", code="invalid_batch") from None
        return validation, taken

    async def _store(self, plan: Plan) -> Extent:
        return await asyncio.to_thread(write_file, self._folder, f"plan.{self._fence}", plan.dump())

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
            tenant=self._context.job.tenant,
        )

    async def _begin(self, plan: Plan, stored: Extent, copy: Extent) -> None:
        state = self._record.state
        await self._record.save(
            phase=Phase.IN_PROGRESS,
            in_progress_at=state.in_progress_at or self._workplace.clock.wall(),
            model=plan.deployments[0] if len(plan.deployments) == 1 else None,
            plan=stored,
            input=copy,
            counts=replace(state.counts, total=len(plan)),
            problems=(),
        )

    # --- finalizing -------------------------------------------------------------------------------------------------

    async def _finalise(self, plan: Plan, journal: Journal, source: Input) -> bytes:
        """The two files, and what the job leaves. Raises `Stopped`."""
        now, state, cancels = self._workplace.clock.wall(), self._record.state, self._context.wish is Wish.CANCEL
        await self._record.save(
            phase=Phase.FINALIZING,
            finalizing_at=state.finalizing_at or now,
            cancelling_at=state.cancelling_at or (now if cancels else None),
        )
        why = self._why_unfinished()
        if journal.done < len(plan) and self._context.wish not in _CLOSING:
            self._context.log(f"ends: {why.message}", "warning")
        written = await self._waiting.patiently(lambda: self._write(plan, journal, source, why))
        counts = Counts(len(plan), journal.answered, len(plan) - journal.answered)
        self._context.log(f"finished: {counts.completed} of {counts.total} lines answered, {counts.failed} failed")
        usage = self._record.state.usage
        return encode(
            BatchResult(output=written.get("output"), errors=written.get("errors"), counts=counts, usage=usage)
        )

    def _why_unfinished(self) -> LineError:
        """What is told of lines without a result, if there are any."""
        if self._context.wish is Wish.CANCEL:
            return CANCELLED
        return EXPIRED if self._ending.reason is None else self._ending.reason

    async def _write(self, plan: Plan, journal: Journal, source: Input, why: LineError) -> dict[str, ResultFile]:
        async with ResultFiles(self._workplace.blobs, f"batches/{self._id}/{self._fence}") as files:
            return await write_results(
                journal,
                len(plan),
                files,
                batch_id=self._id,
                source=source,
                why_unfinished=why,
                progress=lambda done: self._context.progress(Phase.FINALIZING, done, len(plan)),
            )

    async def _nothing(self) -> bytes:
        """The result of a batch that was cancelled before its input was checked."""
        await self._record.save(cancelling_at=self._workplace.clock.wall())
        return encode(BatchResult(output=None, errors=None, counts=self._record.state.counts, usage=TokenSums()))


def _summary(problems: list[LineProblem]) -> str:
    first = problems[0]
    where = "" if first.line is None else f"line {first.line}: "
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"The input file is not in order: {where}{first.message}{more}"
