"""The lines of a batch under way: asked, and their results put on record."""

import asyncio
from typing import Any, Final

from pileus.batch.answering import Asker
from pileus.batch.ending import Ending, LineError, key_closed, no_budget
from pileus.batch.intake import Input
from pileus.batch.journal import Group, Journal, Result
from pileus.batch.plan import Plan
from pileus.batch.record import Record
from pileus.batch.records import Counts, decode_spec
from pileus.batch.runner import Runner
from pileus.batch.waiting import Waiting
from pileus.batch.workplace import Workplace
from pileus.core.errors import Quarantined, QuotaExceeded, Unauthenticated
from pileus.core.records import Principal
from pileus.jobs.handler import Context, JobFailed
from pileus.store.job_table import Wish

_MOST_PENDING_BYTES: Final = 4 << 20  # of results that wait to be committed
_LEAST_LEFT_S: Final = 60.0  # for a line: that the batch's time is over is for the owner to say, and it cancels them
_MOST_REFUSED: Final = 16  # lines in a row that the budget has no room for; a smaller one may still have


class Working:
    """For one lease."""

    def __init__(
        self, workplace: Workplace, context: Context, record: Record, waiting: Waiting, ending: Ending
    ) -> None:
        self._workplace = workplace
        self._context = context
        self._record = record
        self._waiting = waiting
        self._ending = ending
        self._usage = record.state.usage  # with what is not committed yet
        self._refused = 0  # lines in a row, for want of budget
        self._no_budget: LineError | None = None  # why at least one line did not run
        assert context.job.due_at is not None
        clock = workplace.clock  # a wall clock that is set moves `due_at` on record, and not here
        self._ends_at = clock.monotonic() + context.job.due_at - clock.wall()

    async def run(self, plan: Plan, journal: Journal, source: Input) -> None:
        """Until every line has a committed result, or something is asked, or the batch has to end. Raises `Stopped`."""
        try:
            asker = self._asker()
        except Unauthenticated as refusal:
            self._ending.come(key_closed(refusal.message))
            return
        began, before = self._workplace.clock.monotonic(), journal.done
        if before:
            self._context.log(f"goes on: {before} of {len(plan)} lines are done")
        await self._run(self._runner(plan, journal, source, asker), journal)
        took_s = self._workplace.clock.monotonic() - began
        lines = journal.done - before
        self._context.log(f"ran {lines} lines in {took_s:.1f} s, {lines / max(took_s, 1e-3):.1f} per second")

    async def _run(self, runner: Runner, journal: Journal) -> None:
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
        if self._no_budget is not None and runner.exhausted:
            self._ending.come(self._no_budget)

    def _runner(self, plan: Plan, journal: Journal, source: Input, asker: Asker) -> Runner:
        directory = self._workplace.directory

        async def run_line(place: int) -> bool:
            return await self._run_line(place, source.line(place), asker, journal)

        return Runner(
            [(deployment, place) for deployment, place in plan.turns() if place not in journal],
            run_line,
            slots=lambda name: sum(link.capabilities.slots for link in directory.ready(name)),
            may_begin=lambda: not self._waiting.stuck and journal.pending_bytes < _MOST_PENDING_BYTES,
        )

    async def _run_line(self, place: int, content: bytes, asker: Asker, journal: Journal) -> bool:
        """Whether it is to run once more, by itself."""
        try:
            result, sums = await asker.ask(place, content)
        except Quarantined:
            return True
        except Unauthenticated as refusal:
            self._ending.come(key_closed(refusal.message))
        except QuotaExceeded as refusal:
            self._refused += 1
            self._no_budget = no_budget(refusal.message)
            if self._refused >= _MOST_REFUSED:
                self._ending.come(self._no_budget)
        else:
            self._refused = 0
            self._usage += sums
            journal.add(result)
        return False

    def _asker(self) -> Asker:
        """Raises `Unauthenticated` where the key that submitted the batch was closed."""
        job, clock = self._context.job, self._workplace.clock
        principal: Principal | None = self._workplace.principal(job.key_id)
        if principal is None:
            raise JobFailed(f"The key {job.key_id}, which submitted this batch, is not known any more.")

        def left_s() -> float:
            return max(self._ends_at - clock.monotonic(), _LEAST_LEFT_S)

        endpoint = self._workplace.endpoints[decode_spec(job.spec).endpoint]
        return Asker(job.id, endpoint, principal, left_s, self._waiting.tell)

    async def _obey(self, runner: Runner) -> None:
        """Stop when something is asked, or the batch has to end."""
        wished, ended = asyncio.ensure_future(self._context.wished()), asyncio.ensure_future(self._ending.wait())
        reasons: set[asyncio.Future[Any]] = {wished, ended}
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wished.cancel()
            ended.cancel()
        if self._context.wish is Wish.CANCEL:
            self._record.note(cancelling_at=self._workplace.clock.wall())
        pauses = self._context.wish is Wish.PAUSE and self._ending.reason is None
        await runner.stop(self._workplace.grace_s if pauses else 0.0)

    async def _commit_often(self, journal: Journal, running: "asyncio.Future[None]", runner: Runner) -> None:
        """Return when all that ran is committed. Raises `Stopped` where it cannot be written and the batch is to
        pause: then what is not committed runs again."""
        while True:
            over = running.done()
            if results := journal.take():
                await self._commit(journal, results)
            elif over:
                return
            runner.look()
            await asyncio.wait({running}, timeout=self._workplace.commit_s)

    async def _commit(self, journal: Journal, results: list[Result]) -> None:
        usage = self._usage

        async def write() -> Group:
            return await asyncio.to_thread(journal.write, results)

        group = await self._waiting.patiently(write)
        state, answered = self._record.state, sum(each.answered for each in results)
        others = tuple(segment for segment in state.segments if segment.name != group.extent.name)
        completed, failed = journal.answered + answered, journal.failed + len(results) - answered
        counts = Counts(state.counts.total, completed, failed)
        await self._record.save(segments=(*others, group.extent), counts=counts, usage=usage)
        journal.committed(group)
        self._waiting.went_on()
