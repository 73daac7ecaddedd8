"""A background request in a worker: whatever comes in between, it has one end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from msgspec import Raw
from msgspec.json import decode, encode
from msgspec.structs import replace

from pileus.background.handler import BackgroundHandler
from pileus.background.records import BackgroundSpec, Refusal
from pileus.core.errors import InvalidRequest, Overloaded, PileusError, Unauthenticated, Unavailable
from pileus.core.records import Lane, Principal
from pileus.jobs.handler import YIELDED, Context, JobFailed
from pileus.store.job_table import Job, Wish
from pileus.testing.clock import ManualClock
from unit.batch.bench import MemoryBlobs

WHO = Principal("key_1", "acme", "user", frozenset())
SPEC = BackgroundSpec(
    endpoint="/v1/chat/completions",
    body=Raw(b"{}"),
    model="clouds",
    request_id="req_1",
    traceparent=None,
    lane=Lane.ON_DEMAND,
    priority=0,
)
PATIENCE_S = 10.0


class Lease:
    """See `jobs.handler.Context`."""

    def __init__(self, due_at: float = 100.0, spec: BackgroundSpec = SPEC) -> None:
        who = {"tenant": "acme", "key_id": "key_1"}
        self.job = Job(id="bg_1", kind="background", spec=encode(spec), created_at=0.0, due_at=due_at, **who)
        self.folder = Path()
        self.wish = Wish.NONE
        self.kept: list[bytes] = []
        self.told: list[str] = []
        self._asked = asyncio.Event()

    def ask(self, wish: Wish) -> None:
        self.wish = wish
        self._asked.set() if wish else self._asked.clear()

    async def wished(self) -> Wish:
        await self._asked.wait()
        return self.wish

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self.kept.append(body)

    def log(self, text: str, level: str = "info") -> None:
        self.told.append(text)


class Speaker:
    """Gives what the script has, one thing for each time that it is asked; waits at an event."""

    def __init__(self, *script: bytes | PileusError | asyncio.Event) -> None:
        self.asked: list[tuple[BackgroundSpec, bytes, Principal, float]] = []
        self.began = asyncio.Event()
        self.cancelled = 0
        self._script = list(script)

    async def answer(self, spec: BackgroundSpec, body: bytes, principal: Principal, left_s: float) -> bytes:
        self.asked.append((spec, body, principal, left_s))
        self.began.set()
        step = self._script.pop(0)
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return b'{"waited":true}'
        if isinstance(step, PileusError):
            raise step
        return step

    def refusal(self, error: PileusError) -> bytes:
        return encode({"error": error.message})


@asynccontextmanager
async def working(
    speaker: Speaker,
    lease: Lease,
    principal: Callable[[str], Principal] = lambda _: WHO,
    grace_s: float = 0.0,
    at: float = 0.0,
    blobs: MemoryBlobs | None = None,
) -> AsyncIterator[tuple[BackgroundHandler, "asyncio.Task[object]"]]:
    handler = BackgroundHandler(speaker, blobs or MemoryBlobs(), principal, ManualClock(at), grace_s=grace_s)

    async def work() -> object:
        return await handler(cast(Context, lease))

    async with asyncio.timeout(PATIENCE_S):
        task = asyncio.create_task(work())
        yield handler, task
        await asyncio.wait({task})


async def test_the_answer_is_the_jobs_result() -> None:
    speaker, lease = Speaker(b'{"answer":1}'), Lease()
    async with working(speaker, lease, at=40.0) as (_, task):
        assert await task == b'{"answer":1}'
    assert speaker.asked == [(SPEC, b"{}", WHO, 60.0)]


async def test_a_large_body_is_fetched_from_where_it_is() -> None:
    blobs, speaker = MemoryBlobs(), Speaker(b"{}")
    blobs.contents["background/bg_1"] = body = b"[%s]" % (b"1," * 5000)
    lease = Lease(spec=replace(SPEC, body=Raw(b"null"), blob="background/bg_1"))
    async with working(speaker, lease, blobs=blobs) as (_, task):
        assert await task == b"{}"
    assert speaker.asked[0][1] == body


async def test_where_the_service_is_the_reason_it_is_asked_again() -> None:
    speaker = Speaker(Overloaded(retry_after_s=0.0), Unavailable("nobody is there", retry_after_s=0.0), b"{}")
    lease = Lease()
    async with working(speaker, lease) as (_, task):
        assert await task == b"{}"
    assert len(speaker.asked) == 3
    assert lease.told == ["waits: The queue is full.", "waits: nobody is there"]


async def test_what_is_the_callers_fault_is_kept_as_it_would_have_been_answered() -> None:
    speaker, lease = Speaker(InvalidRequest("no such thing", param="n")), Lease()
    async with working(speaker, lease) as (_, task):
        with pytest.raises(JobFailed) as caught:
            await task
    assert caught.value.code == "invalid_value"
    [kept] = lease.kept
    assert decode(kept, type=Refusal) == Refusal("invalid_value", Raw(b'{"error":"no such thing"}'))
    assert len(speaker.asked) == 1


async def test_an_answer_that_is_too_large_is_refused_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileus.background.handler.MAX_RESULT_BYTES", 3)
    speaker, lease = Speaker(b"{  }"), Lease()
    async with working(speaker, lease) as (_, task):
        with pytest.raises(JobFailed, match=r"4 bytes, and at most 3 .* fewer logprobs"):
            await task
    assert decode(lease.kept[0], type=Refusal).code == "invalid_value"


@pytest.mark.parametrize("by_s", [86_400.0, -86_400.0])
async def test_a_clock_that_is_set_changes_nothing_about_the_time_that_is_left(by_s: float) -> None:
    clock = ManualClock(0.0)

    class Setting(Speaker):
        async def answer(self, spec: BackgroundSpec, body: bytes, principal: Principal, left_s: float) -> bytes:
            clock.advance(10.0)
            clock.set_wall(clock.wall() + by_s)
            return await super().answer(spec, body, principal, left_s)

    speaker, lease = Setting(Unavailable("nobody is there", retry_after_s=0.0), b"{}"), Lease()
    handler = BackgroundHandler(speaker, MemoryBlobs(), lambda _: WHO, clock)
    async with asyncio.timeout(PATIENCE_S):
        assert await handler(cast(Context, lease)) == b"{}"
    assert [left_s for *_, left_s in speaker.asked] == [100.0, 90.0]


async def test_what_is_too_late_is_not_begun() -> None:
    speaker, lease = Speaker(b"{}"), Lease(due_at=5.0)
    async with working(speaker, lease, at=5.0) as (_, task):
        with pytest.raises(JobFailed) as caught:
            await task
    assert caught.value.code == "deadline_exceeded"
    assert speaker.asked == []


@pytest.mark.parametrize("wish", [Wish.CANCEL, Wish.EXPIRE])
async def test_one_that_shall_end_ends_at_once(wish: Wish) -> None:
    speaker, lease = Speaker(asyncio.Event()), Lease()
    async with working(speaker, lease, grace_s=1000.0) as (_, task):
        await speaker.began.wait()
        lease.ask(wish)
        assert await task == b""
    assert speaker.cancelled == 1


async def test_one_that_shall_pause_is_given_back_after_its_grace() -> None:
    speaker, lease = Speaker(asyncio.Event()), Lease()
    async with working(speaker, lease, grace_s=0.01) as (_, task):
        await speaker.began.wait()
        lease.ask(Wish.PAUSE)
        assert await task is YIELDED
    assert speaker.cancelled == 1


async def test_one_that_is_answered_within_the_grace_is_done() -> None:
    answered = asyncio.Event()
    speaker, lease = Speaker(answered), Lease()
    async with working(speaker, lease, grace_s=1000.0) as (_, task):
        await speaker.began.wait()
        lease.ask(Wish.PAUSE)
        for _ in range(20):  # it is heard of
            await asyncio.sleep(0)
        answered.set()
        assert await task == b'{"waited":true}'


async def test_one_that_shall_go_on_after_all_goes_on() -> None:
    answered = asyncio.Event()
    speaker, lease = Speaker(answered), Lease()
    async with working(speaker, lease, grace_s=0.05) as (_, task):
        await speaker.began.wait()
        lease.ask(Wish.PAUSE)
        await asyncio.sleep(0)
        lease.ask(Wish.NONE)
        await asyncio.wait({task}, timeout=0.2)
        assert not task.done()
        answered.set()
        assert await task == b'{"waited":true}'


async def test_a_key_that_is_closed_ends_what_is_answered_for_it() -> None:
    closed = False

    def principal(_: str) -> Principal:
        if closed:
            raise Unauthenticated("it was revoked")
        return WHO

    speaker, lease = Speaker(asyncio.Event()), Lease()
    async with working(speaker, lease, principal) as (handler, task):
        await speaker.began.wait()
        handler.close_key("key_2")
        closed = True
        handler.close_key("key_1")
        with pytest.raises(JobFailed, match="revoked"):
            await task
    assert speaker.cancelled == 1


async def test_a_lease_that_is_lost_stops_the_answer() -> None:
    speaker, lease = Speaker(asyncio.Event()), Lease()
    async with working(speaker, lease) as (_, task):
        await speaker.began.wait()
        task.cancel()
    assert task.cancelled()
    assert speaker.cancelled == 1
