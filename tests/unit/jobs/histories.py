"""Random histories of jobs: an owner as a model over the pure rules, workers that are lost and go on talking, people
who pause, resume and cancel, and a clock that is set. Every step is held to what a job promises."""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, structs

from pileus.core.errors import InvalidRequest, PileusError
from pileus.jobs import machine
from pileus.jobs.handler import Kind
from pileus.jobs.machine import LeaseLost, NotPossible
from pileus.store.job_table import Job, JobState, Wish

RETRIES = 2
KINDS = {
    kind.name: kind for kind in (Kind(name="plain"), Kind(name="closing", closes=True), Kind(name="once", retries=0))
}
TENANTS = ("acme", "beta")
LAST = (Wish.CANCEL, Wish.EXPIRE)
ENDS = {Wish.CANCEL: JobState.CANCELLED, Wish.EXPIRE: JobState.EXPIRED}
CLOCK_TOLERANCE_S = 60.0
LATEST_READY_S = 360.0  # what lies further ahead was not meant: the clock was set back
ROUNDS = 40  # in which all that is not paused ends, once everybody behaves


class Clock:
    """Two clocks, of which one can be set."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.at = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.passed

    def wall(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.passed += seconds
        self.at += seconds

    def jump(self, seconds: float) -> None:
        self.at += seconds


class Owner(Protocol):
    """What a history does to jobs. Each raises what the service raises, and then has changed nothing."""

    clock: Clock
    jobs: dict[str, Job]  # as they are on record
    told: list[tuple[str, JobState]]  # the ends that listeners heard of

    def submit(self, job: Job) -> None: ...
    def lease(self, kind: str, limit: int) -> list[Job]: ...
    def checkpoint(self, job_id: str, fence: int, body: bytes) -> None: ...
    def finish(self, job_id: str, fence: int) -> None: ...
    def give_back(self, job_id: str, fence: int) -> None: ...
    def fail(self, job_id: str, fence: int, *, retry: bool, counts: bool = True) -> None: ...
    def pause(self, job_id: str) -> None: ...
    def resume(self, job_id: str) -> None: ...
    def cancel(self, job_id: str) -> None: ...
    def not_begun(self, kind: str) -> None: ...
    def tick(self) -> None: ...
    def restart(self) -> None: ...


class PureOwner:
    """The service without a store. Meets `Owner`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.jobs: dict[str, Job] = {}
        self.told: list[tuple[str, JobState]] = []
        self._offset = self.clock.at - self.clock.passed

    def submit(self, job: Job) -> None:
        self._follow_clock()
        met = self._needs_met(job)
        self.jobs[job.id] = structs.replace(
            job, sequence=len(self.jobs) + 1, state=JobState.QUEUED if met else JobState.WAITING
        )

    def lease(self, kind: str, limit: int) -> list[Job]:
        self._follow_clock()
        now = self.clock.at
        ours = [job for job in self.jobs.values() if job.kind == kind]
        ready = [
            job
            for job in ours
            if job.state == JobState.QUEUED and (job.ready_at <= now or job.ready_at > now + LATEST_READY_S)
        ]
        if not ready:
            return []
        running = Counter(job.tenant for job in ours if job.state == JobState.RUNNING)
        given: list[Job] = []
        while ready and len(given) < limit:
            job = min(ready, key=lambda job: (-job.priority, running[job.tenant], job.sequence))
            ready.remove(job)
            running[job.tenant] += 1
            self.jobs[job.id] = machine.leased(job, now)
            given.append(self.jobs[job.id])
        return given

    def checkpoint(self, job_id: str, fence: int, body: bytes) -> None:
        self._put(machine.checkpointed(self.jobs[job_id], fence, body, "", 0, 0))

    def finish(self, job_id: str, fence: int) -> None:
        self._put(machine.finished(self.jobs[job_id], fence, b"{}", self.clock.at))

    def give_back(self, job_id: str, fence: int) -> None:
        self._put(machine.yielded(self.jobs[job_id], fence))

    def fail(self, job_id: str, fence: int, *, retry: bool, counts: bool = True) -> None:
        job = self.jobs[job_id]
        retries = retries_of(job) if retry else 0
        closes = KINDS[job.kind].closes
        self._put(machine.failed(job, fence, "x", "it failed", self.clock.at, retries, closes=closes, counts=counts))

    def pause(self, job_id: str) -> None:
        self._put(machine.paused(self.jobs[job_id]))

    def resume(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self._put(machine.resumed(job, needs_met=self._needs_met(job)))

    def cancel(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self._put(machine.cancelled(job, self.clock.at, closes=KINDS[job.kind].closes))

    def not_begun(self, kind: str) -> None:
        for job in tuple(self.jobs.values()):
            if job.kind == kind:
                self._put(
                    machine.not_begun(
                        self.jobs[job.id], "worker_not_started", "no worker", self.clock.at, retries_of(job)
                    )
                )

    def tick(self) -> None:
        self._follow_clock()
        for job in tuple(self.jobs.values()):
            if job.due_at is not None and job.due_at <= self.clock.at and not job.ended and job.wish not in LAST:
                self._put(machine.expired(self.jobs[job.id], self.clock.at, closes=KINDS[job.kind].closes))

    def _follow_clock(self) -> None:
        offset = self.clock.at - self.clock.passed
        by_s, self._offset = offset - self._offset, offset
        if abs(by_s) > CLOCK_TOLERANCE_S:
            for job in self.jobs.values():
                if not job.ended:
                    due_at = None if job.due_at is None else job.due_at + by_s
                    self.jobs[job.id] = structs.replace(job, due_at=due_at, ready_at=job.ready_at + by_s)

    def restart(self) -> None:
        self._offset = self.clock.at - self.clock.passed
        for job in tuple(self.jobs.values()):
            if job.state == JobState.RUNNING:
                self._put(machine.yielded(job, job.fence))

    def _needs_met(self, job: Job) -> bool:
        needs = [self.jobs[need] for need in job.needs]
        if any(need.ended and need.state != JobState.SUCCEEDED for need in needs):
            raise InvalidRequest("it will not come")
        return all(need.ended for need in needs)

    def _put(self, job: Job) -> None:
        was_ended = self.jobs[job.id].ended
        self.jobs[job.id] = job
        if not job.ended or was_ended:
            return
        self.told.append((job.id, job.state))
        for other in tuple(self.jobs.values()):
            if job.id in other.needs:
                if job.state != JobState.SUCCEEDED:
                    self._put(machine.need_failed(other, job.id, self.clock.at))
                elif all(self.jobs[need].state == JobState.SUCCEEDED for need in other.needs):
                    self._put(machine.needs_met(other))


class Holding(Struct):
    """A lease as a worker has it, which may not know that it is lost."""

    job: str
    fence: int
    checkpoints: int = 0


class Known(Struct):
    """What is promised of a job, as its history went."""

    checkpoint: bytes = b""  # the last acknowledged
    fence: int = 0
    holder: int = 0  # the fence whose word counts; 0 is nobody's
    failures: int = 0
    backoff_s: float = 0.0  # the last in this run of failures
    paused: bool = False  # asked and not taken back
    last_wish: Wish = Wish.NONE
    ended: JobState | None = None
    ends: int = 0


class History:
    """One history, drawn from a seed. A broken promise is an `AssertionError`."""

    def __init__(self, seed: int, owner: Owner) -> None:
        self._random = random.Random(seed)
        self._owner = owner
        self._known: dict[str, Known] = {}
        self._holdings: list[Holding] = []

    def run(self, steps: int) -> None:
        self._submit()
        for _ in range(steps):
            self._step()
            self._check()
        self._settle()

    # --- steps --------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        _STEPS[bisect(_WEIGHTS, self._random.random() * _WEIGHTS[-1])](self)

    def _submit(self) -> None:
        draw = self._random.random
        if len(self._known) == 4:
            return
        number = len(self._known) + 1
        job = Job(
            id=f"job_{number}",
            kind=self._random.choice(_KIND_NAMES),
            tenant="acme" if draw() < 0.7 else "beta",
            key_id="key_1",
            spec=b"{}",
            needs=tuple(name for name in self._known if draw() < 0.3),
            priority=int(draw() * 2),
            created_at=self._owner.clock.at,
            due_at=self._owner.clock.at + draw() * 2000 if draw() < 0.3 else None,
        )
        job = structs.replace(job, tenant="acme") if job.needs else job
        needed = [self._owner.jobs[need] for need in job.needs]
        if any(need.tenant != job.tenant for need in needed):
            return
        if any(need.ended and need.state != JobState.SUCCEEDED for need in needed):
            refused(InvalidRequest, lambda: self._owner.submit(job))
            return
        self._owner.submit(job)
        self._known[job.id] = Known()

    def _lease(self) -> None:
        kind = self._random.choice(_KIND_NAMES)
        before = self._owner.jobs.copy()
        for job in self._owner.lease(kind, 1 + int(self._random.random() * 2)):
            self._on_leased(before[job.id], job)

    def _on_leased(self, before: Job, job: Job) -> None:
        known = self._known[job.id]
        assert before.state == JobState.QUEUED
        assert known.ended is None
        assert known.holder == 0, "two hold it at once"
        assert job.fence > known.fence
        assert job.checkpoint == known.checkpoint, "not the checkpoint that was acknowledged"
        assert job.wish == known.last_wish
        if not known.last_wish:
            assert not known.paused
            assert all(self._known[need].ended == JobState.SUCCEEDED for need in job.needs) or before.started_at
        known.fence = known.holder = job.fence
        self._holdings.append(Holding(job.id, job.fence))

    def _talk(self) -> None:
        """A worker says something; perhaps one that was lost long ago."""
        if not self._holdings:
            return
        held = self._random.choice(self._holdings)
        _SAYINGS[bisect(_SAYING_WEIGHTS, self._random.random() * _SAYING_WEIGHTS[-1])](self, held)

    def _say(self, held: Holding, say: Callable[[], None]) -> bool:
        """Whether it counted, as it has to."""
        if self._known[held.job].holder != held.fence:
            before = self._owner.jobs[held.job]
            refused(LeaseLost, say)
            assert self._owner.jobs[held.job] == before
            return False
        say()
        return True

    def _checkpoint(self, held: Holding) -> None:
        held.checkpoints += 1
        body = b"%d.%d" % (held.fence, held.checkpoints)
        if self._say(held, lambda: self._owner.checkpoint(held.job, held.fence, body)):
            known = self._known[held.job]
            known.checkpoint, known.failures, known.backoff_s = body, 0, 0.0

    def _finish(self, held: Holding) -> None:
        if self._say(held, lambda: self._owner.finish(held.job, held.fence)):
            known = self._known[held.job]
            known.holder = 0
            wanted = ENDS.get(known.last_wish, JobState.SUCCEEDED)
            assert self._owner.jobs[held.job].state == wanted
            assert self._owner.jobs[held.job].result == b"{}"

    def _give_back(self, held: Holding) -> None:
        if self._say(held, lambda: self._owner.give_back(held.job, held.fence)):
            self._on_let_go(held.job)

    def _fail(self, held: Holding) -> None:
        if self._say(held, lambda: self._owner.fail(held.job, held.fence, retry=True)):
            self._on_failed(held.job)

    def _refuse(self, held: Holding) -> None:
        if self._say(held, lambda: self._owner.fail(held.job, held.fence, retry=False)):
            known, job = self._known[held.job], self._owner.jobs[held.job]
            known.holder = 0
            assert job.state == ENDS.get(known.last_wish, JobState.FAILED)

    def _lose(self) -> None:
        """Somebody who holds a job is gone; what it says later is a zombie's."""
        holders = [held for held in self._holdings if self._known[held.job].holder == held.fence]
        if not holders:
            return
        held = self._random.choice(holders)
        if self._random.random() < 0.5:
            self._fail(held)
        elif self._say(held, lambda: self._owner.fail(held.job, held.fence, retry=True, counts=False)):
            self._on_failed(held.job, counts=False)  # others were with it: nobody knows whose failure it was

    def _on_failed(self, job_id: str, *, counts: bool = True) -> None:
        known, job = self._known[job_id], self._owner.jobs[job_id]
        known.failures += counts
        retries = retries_of(job)
        has_nothing_to_keep = known.last_wish and not KINDS[job.kind].closes
        if (counts and known.failures > retries) or has_nothing_to_keep:
            known.holder = 0
            assert job.state == ENDS.get(known.last_wish, JobState.FAILED), "it is tried for ever"
            return
        backoff_s = job.ready_at - self._owner.clock.at
        assert known.backoff_s - 1e-6 <= backoff_s <= machine.LONGEST_BACKOFF_S + 1e-6
        assert backoff_s > 0.5
        known.backoff_s = backoff_s
        self._on_let_go(job_id)

    def _on_let_go(self, job_id: str) -> None:
        known, job = self._known[job_id], self._owner.jobs[job_id]
        known.holder = 0
        pauses = known.paused and not known.last_wish
        assert job.state == (JobState.PAUSED if pauses else JobState.QUEUED)

    def _pause(self) -> None:
        job, known = self._some()
        if job.ended or known.last_wish:
            refused(NotPossible, lambda: self._owner.pause(job.id))
            return
        self._owner.pause(job.id)
        known.paused = True

    def _resume_some(self) -> None:
        job, known = self._some()
        needs = [self._known[need].ended for need in job.needs]
        if known.ended == JobState.FAILED and any(need not in (None, JobState.SUCCEEDED) for need in needs):
            refused(InvalidRequest, lambda: self._owner.resume(job.id))
        elif known.ended == JobState.FAILED or (known.paused and not known.last_wish):
            self._resume(job)
        else:
            refused(NotPossible, lambda: self._owner.resume(job.id), InvalidRequest)

    def _resume(self, job: Job) -> None:
        self._owner.resume(job.id)
        known = self._known[job.id]
        known.paused, known.ended = False, None
        if job.state != JobState.RUNNING:
            known.failures, known.backoff_s = 0, 0.0

    def _cancel(self) -> None:
        job, _ = self._some()
        if job.ended:
            refused(NotPossible, lambda: self._owner.cancel(job.id))
            return
        self._owner.cancel(job.id)
        self._on_asked_to_end(job, Wish.CANCEL)

    def _on_asked_to_end(self, job: Job, wish: Wish) -> None:
        known = self._known[job.id]
        if not known.last_wish:
            known.last_wish, known.failures, known.backoff_s = wish, 0, 0.0

    def _not_begun(self) -> None:
        kind = self._random.choice(_KIND_NAMES)
        for job in self._owner.jobs.values():
            if job.kind == kind and job.state == JobState.QUEUED and self._known[job.id].last_wish:
                self._known[job.id].failures += 1
        self._owner.not_begun(kind)

    def _pass_time(self) -> None:
        self._owner.clock.advance(self._random.random() * 600)

    def _jump(self) -> None:
        self._owner.clock.jump(self._random.uniform(-8, 8) * 3600)

    def _tick(self) -> None:
        live = [job for job in self._owner.jobs.values() if job.due_at is not None and not job.ended]
        self._owner.tick()
        for before in live:
            job = self._owner.jobs[before.id]
            assert job.due_at is not None
            if job.due_at <= self._owner.clock.at and job.error_code != "need_failed":
                self._on_asked_to_end(before, Wish.EXPIRE)

    def _restart(self) -> None:
        """Of the owner: nobody holds anything any more, and all that is on record stays."""
        self._owner.restart()
        for known in self._known.values():
            known.holder = 0

    def _some(self) -> tuple[Job, Known]:
        job_id = self._random.choice(list(self._known))
        return self._owner.jobs[job_id], self._known[job_id]

    # --- promises -----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        jobs, ends = self._owner.jobs, 0
        for job_id, known in self._known.items():
            job = jobs[job_id]
            ended = job.ended
            assert ended == (job.finished_at is not None)
            assert job.checkpoint == known.checkpoint, "an acknowledged checkpoint is lost"
            assert (known.holder != 0) == (job.state == JobState.RUNNING)
            assert job.fence == known.fence
            assert ended or job.failures == known.failures <= retries_of(job)
            if known.ended is not None:
                assert job.state == known.ended, "it goes on after its end"
            elif ended:
                known.ended, known.paused = job.state, False
                known.ends += 1
                if known.last_wish:
                    assert job.state == ENDS[known.last_wish]
            ends += known.ends
        if len(self._owner.told) != ends:
            raise AssertionError("an end was told twice, or not at all")

    def _settle(self) -> None:
        """Everybody behaves from now on: all ends that nobody keeps from it."""
        for _ in range(ROUNDS):
            self._tick()
            self._check()
            for job in tuple(self._owner.jobs.values()):
                if self._known[job.id].paused and not self._known[job.id].last_wish:
                    self._resume(job)
            for kind in _KIND_NAMES:
                before = self._owner.jobs.copy()
                for job in self._owner.lease(kind, 2):
                    self._on_leased(before[job.id], job)
            for held in self._holdings:
                if self._known[held.job].holder == held.fence:
                    self._finish(held)
                    self._check()
            self._holdings.clear()
            if all(job.ended for job in self._owner.jobs.values()):
                return
            self._owner.clock.advance(30.0)
        raise AssertionError(f"these do not end: {[job for job in self._owner.jobs.values() if not job.ended]}")


def retries_of(job: Job) -> int:
    own = KINDS[job.kind].retries
    return RETRIES if own is None else own


def refused(kind: type[PileusError], act: Callable[[], object], *others: type[PileusError]) -> None:
    try:
        act()
    except (kind, *others):
        return
    raise AssertionError(f"it should have raised {kind.__name__}")


def _cumulated(weights: Mapping[object, int]) -> Sequence[int]:
    total, sums = 0, []
    for weight in weights.values():
        total += weight
        sums.append(total)
    return sums


_KIND_NAMES = tuple(KINDS)
_WEIGHED: dict[Callable[[History], None], int] = {
    History._submit: 6,
    History._lease: 22,
    History._talk: 30,
    History._lose: 6,
    History._pause: 5,
    History._resume_some: 7,
    History._cancel: 3,
    History._not_begun: 2,
    History._pass_time: 8,
    History._jump: 3,
    History._tick: 8,
    History._restart: 4,
}
_STEPS, _WEIGHTS = tuple(_WEIGHED), _cumulated(_WEIGHED)
_WEIGHED_SAYINGS: dict[Callable[[History, Holding], None], int] = {
    History._checkpoint: 10,
    History._finish: 4,
    History._give_back: 3,
    History._fail: 5,
    History._refuse: 1,
}
_SAYINGS, _SAYING_WEIGHTS = tuple(_WEIGHED_SAYINGS), _cumulated(_WEIGHED_SAYINGS)
