"""A batch's life, lease by lease."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pileus.batch import journal as journal_module
from pileus.batch.handler import BatchHandler
from pileus.batch.records import BatchCheckpoint, Counts, Phase, TokenSums
from pileus.batch.view import BatchStatus, view
from pileus.config.settings import Batches
from pileus.core.errors import (
    EngineFailed,
    InvalidRequest,
    Overloaded,
    Quarantined,
    QuotaExceeded,
    Unauthenticated,
)
from pileus.core.records import Principal
from pileus.engines.replica.wire import MAX_FRAME_BYTES
from pileus.store.job_table import JobState, Wish
from unit.batch.bench import Desk, asks, ids, meanwhile

TEXTS = [f"text {number}" for number in range(40)]


async def test_every_line_is_answered_in_the_order_of_the_input(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    await desk.lease()
    assert desk.job.state is JobState.SUCCEEDED
    assert desk.results("errors") == []
    output = desk.results("output")
    assert ids(output) == TEXTS
    assert output[7]["response"]["status_code"] == 200
    assert output[7]["response"]["body"] == {"said": "text 7"}
    assert output[7]["error"] is None
    assert desk.result.counts == Counts(40, 40, 0)
    assert desk.result.usage == TokenSums(120, 40, 80)
    assert desk.checkpoint.phase is Phase.FINALIZING
    assert desk.checkpoint.model == "clouds"
    assert (desk.job.done, desk.job.total) == (40, 40)


async def test_a_lines_own_failure_is_in_the_error_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a", "b", "c", "d"))
    desk.endpoint.refusals = {"b": [InvalidRequest("no")], "c": [EngineFailed("no")], "d": [ZeroDivisionError()]}
    await desk.lease()
    assert ids(desk.results("output")) == ["a"]
    errors = desk.results("errors")
    assert ids(errors) == ["b", "c", "d"]
    assert [line["response"]["body"]["error"]["code"] for line in errors] == [
        "invalid_value",
        "engine_failed",
        "internal_error",
    ]
    assert desk.result.counts == Counts(4, 1, 3)


async def test_a_line_waits_while_the_service_is_not_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a"))
    desk.endpoint.refusals = {"a": [Overloaded(retry_after_s=0.0), QuotaExceeded(retry_after_s=0.0)]}
    await desk.lease()
    assert desk.endpoint.asked == ["a"] * 3
    assert ids(desk.results("output")) == ["a"]


async def test_why_a_line_waits_is_told_once_and_another_reason_after_a_minute(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a"))
    reasons = ["no replica is ready", "the queue is full", "too many are before it", "too many are before it"]
    desk.endpoint.refusals = {"a": [Overloaded(reason, retry_after_s=0.0) for reason in reasons]}
    desk.endpoint.on_asked = lambda: desk.clock.advance(61.0) if len(desk.endpoint.asked) > 2 else None
    await desk.lease()
    assert [told for told in desk.told if told.startswith("waits")] == [
        "waits: no replica is ready",
        "waits: too many are before it",
    ]


def no_room() -> QuotaExceeded:
    return QuotaExceeded("nothing is left", retry_after_s=3600.0)


async def test_a_line_that_the_budget_has_no_room_for_does_not_keep_smaller_ones_from_running(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a", "b", "c"))
    desk.endpoint.refusals = {"b": [no_room()]}
    await desk.lease()
    assert desk.job.state is JobState.SUCCEEDED
    assert ids(desk.results("output")) == ["a", "c"]
    errors = desk.results("errors")
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [("b", "insufficient_quota")]
    assert desk.result.counts == Counts(3, 2, 1)


async def test_a_budget_that_is_used_up_ends_the_batch_without_trying_each_line(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(200)]
    desk = Desk(tmp_path, asks(*texts))
    desk.endpoint.refusals = {text: [no_room()] for text in texts[8:]}
    await desk.lease()
    assert desk.job.state is JobState.SUCCEEDED
    assert ids(desk.results("output")) == texts[:8]
    errors = desk.results("errors")
    assert ids(errors) == texts[8:]
    assert {line["error"]["code"] for line in errors} == {"insufficient_quota"}
    assert len(desk.endpoint.asked) < 50
    assert desk.result.counts == Counts(200, 8, 192)


async def test_a_key_that_is_closed_ends_its_batches_with_what_is_answered(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))

    async def close(handler: BatchHandler) -> None:
        handler.close_key("key_t", "This API key was revoked.")

    await midway(desk, close)
    assert desk.job.state is JobState.SUCCEEDED
    assert sorted(desk.endpoint.cancelled) == sorted(desk.endpoint.asked[8:])
    assert ids(desk.results("output")) == TEXTS[:8]
    errors = desk.results("errors")
    assert ids(errors) == TEXTS[8:]
    assert {line["error"]["code"] for line in errors} == {"key_closed"}
    assert "revoked" in errors[0]["error"]["message"]
    assert any("revoked" in told for told in desk.told)


async def test_another_key_that_is_closed_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))

    async def close(handler: BatchHandler) -> None:
        handler.close_key("key_other", "This API key was revoked.")
        assert desk.endpoint.gate is not None
        desk.endpoint.gate.set()

    await midway(desk, close)
    assert ids(desk.results("output")) == TEXTS


async def test_a_key_that_was_closed_before_a_lease_ends_the_batch_in_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a", "b"))

    def closed(key_id: str) -> Principal:
        raise Unauthenticated(f"{key_id} has expired.")

    desk.principal = closed
    await desk.lease()
    assert desk.endpoint.asked == []
    assert {line["error"]["code"] for line in desk.results("errors")} == {"key_closed"}
    assert desk.result.counts == Counts(2, 0, 2)


async def test_a_line_that_is_refused_for_its_key_ends_the_batch(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.endpoint.refusals = {TEXTS[0]: [Unauthenticated("This API key was revoked.")]}
    await desk.lease()
    assert len(desk.endpoint.asked) < len(TEXTS)
    assert ids([*desk.results("output"), *desk.results("errors")]).count(TEXTS[0]) == 1
    assert {line["error"]["code"] for line in desk.results("errors")} == {"key_closed"}


async def test_a_line_that_replicas_were_lost_with_runs_again_at_the_end_and_by_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    lost = "2 replicas were lost"
    desk.endpoint.refusals = {
        TEXTS[0]: [Quarantined(lost) for _ in range(9)],
        TEXTS[1]: [Quarantined(lost)],
        TEXTS[2]: [Quarantined(lost), Quarantined(lost)],
    }
    await desk.lease()
    assert ids(desk.results("errors")) == [TEXTS[0]]
    assert ids(desk.results("output")) == TEXTS[1:]
    again = desk.endpoint.asked[len(TEXTS) :]
    assert sorted(again) == [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[2]]
    assert desk.endpoint.others_running[len(TEXTS) :] == [0] * 5
    assert max(desk.endpoint.others_running) > 0


@pytest.mark.fault(18, "ENOSPC under a batch's results", "it waits, says so, and goes on by itself")
async def test_18_a_full_disk_under_the_results_is_waited_for_and_no_line_begins_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    refused: list[int] = []  # lines that had been asked for at each write that failed
    write_all, loop = journal_module.write_all, asyncio.get_running_loop()
    desk.endpoint.permits = permits = asyncio.Semaphore(8)

    def permit() -> None:
        for _ in TEXTS:
            permits.release()

    def write(descriptor: int, data: bytes) -> None:
        if desk.checkpoint.counts.completed and len(refused) < 4:
            refused.append(len(desk.endpoint.asked))
            if len(refused) == 2:
                loop.call_soon_threadsafe(permit)
            write_all(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(descriptor, data)

    monkeypatch.setattr(journal_module, "write_all", write)
    await desk.lease()
    assert desk.job.state is JobState.SUCCEEDED
    assert ids(desk.results("output")) == TEXTS
    assert desk.endpoint.asked == TEXTS  # each once
    assert len(refused) == 4
    assert refused[1] == refused[-1] < len(TEXTS)
    assert len([told for told in desk.told if "No space left" in told]) == 1
    assert len(found_in(tmp_path, "results.*")) == len(desk.checkpoint.segments) == 2


async def test_on_a_full_disk_a_batch_can_be_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, asks("a", "b"))

    def write(descriptor: int, data: bytes) -> None:
        desk.wish(Wish.PAUSE)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(journal_module, "write_all", write)
        await desk.lease()
    assert desk.job.state is JobState.PAUSED
    desk.resume()
    await desk.lease()
    assert ids(desk.results("output")) == ["a", "b"]


async def test_lines_that_begin_alike_run_one_after_another(tmp_path: Path) -> None:
    stories = {letter: letter * 300 for letter in "abc"}
    texts = [stories[letter] + str(number) for number in range(5) for letter in "abc"]
    desk = Desk(tmp_path, asks(*texts))
    await desk.lease()
    firsts = [text[0] for text in desk.endpoint.asked]
    assert len(firsts) == 15
    assert sum(one != other for one, other in pairwise(firsts)) == 2
    assert ids(desk.results("output")) == texts


async def test_what_is_left_of_the_window_is_the_lines_deadline(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a"))
    desk.clock.advance(30.0)
    await desk.lease()
    assert desk.endpoint.deadlines == [70.0]


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_wall_clock_that_is_set_moves_no_lines_deadline(tmp_path: Path, days: int) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.on_checkpoint = lambda _: desk.clock.set_wall(1000.0 + 86_400.0 * days)
    await desk.lease()
    assert set(desk.endpoint.deadlines) == {100.0}


async def test_an_input_that_is_not_in_order_is_refused_before_anything_runs(tmp_path: Path) -> None:
    lines = asks("a", "b", "c")
    del lines[1]["body"]["text"]
    lines[2]["custom_id"] = "a"
    desk = Desk(tmp_path, lines)
    await desk.lease()
    assert desk.job.state is JobState.FAILED
    assert desk.job.error_code == "invalid_batch"
    assert desk.endpoint.asked == []
    problems = desk.checkpoint.problems
    assert [(each.line, each.code, each.param) for each in problems] == [
        (2, "invalid_request", "body.text"),
        (3, "duplicate_custom_id", "custom_id"),
    ]


@pytest.mark.parametrize("where", ["of the line", "of the body"])
async def test_however_long_the_names_are_that_a_line_invents_what_is_told_fits_into_a_frame(
    tmp_path: Path, where: str
) -> None:
    lines = asks(*(f"text {number}" for number in range(1000)))
    for line in lines:
        (line if where == "of the line" else line["body"])["\u0001" * 1500] = 1
    desk = Desk(tmp_path, lines)
    await desk.lease()
    assert desk.job.state is JobState.FAILED
    assert len(desk.checkpoint.problems) > 100
    assert len(desk.job.checkpoint) < MAX_FRAME_BYTES / 4
    assert len(desk.job.error) < 300


async def test_a_batch_of_too_many_lines_is_refused_by_the_line_that_is_one_too_many(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks("a", "b", "c", "d"))
    desk.settings = Batches(max_lines=2)
    await desk.lease()
    assert desk.job.state is JobState.FAILED
    assert [(each.line, each.code) for each in desk.checkpoint.problems] == [(3, "too_many_tasks")]


async def test_pausing_lets_lines_under_way_end_and_resuming_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.grace_s = 20.0
    desk.endpoint.gate = gate = asyncio.Event()

    async def pause() -> None:
        await desk.endpoint.reached.wait()
        desk.wish(Wish.PAUSE)
        await desk.heard.wait()
        gate.set()

    await meanwhile(desk.lease(), pause)
    assert desk.job.state is JobState.PAUSED
    done = desk.checkpoint.counts.completed
    assert done == len(desk.endpoint.asked) == 4
    assert desk.endpoint.cancelled == []
    desk.resume()
    await desk.lease()
    assert desk.job.state is JobState.SUCCEEDED
    assert sorted(desk.endpoint.asked) == sorted(TEXTS)
    assert ids(desk.results("output")) == TEXTS


async def test_lines_that_do_not_end_within_the_grace_are_run_again_after_a_pause(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.endpoint.gate = asyncio.Event()

    async def pause() -> None:
        await desk.endpoint.reached.wait()
        desk.wish(Wish.PAUSE)

    await meanwhile(desk.lease(), pause)
    assert desk.job.state is JobState.PAUSED
    assert sorted(desk.endpoint.cancelled) == desk.endpoint.asked == TEXTS[:4]
    desk.endpoint.gate = None
    desk.resume()
    await desk.lease()
    assert ids(desk.results("output")) == TEXTS


async def wish_midway(desk: Desk, wish: Wish) -> None:
    """Ask for it once eight lines are committed and others are under way."""

    async def ask(_: BatchHandler) -> None:
        desk.wish(wish)

    await midway(desk, ask)


async def midway(desk: Desk, act: Callable[[BatchHandler], Awaitable[None]]) -> None:
    """Do that once eight lines are committed and others are under way."""
    committed = asyncio.Event()
    desk.endpoint.gate, desk.endpoint.free = asyncio.Event(), 8
    desk.on_checkpoint = lambda state: committed.set() if state.counts.completed == 8 else None

    async def ask() -> None:
        await committed.wait()
        await desk.endpoint.reached.wait()
        assert desk.at_work is not None
        await act(desk.at_work)

    await meanwhile(desk.lease(), ask)


async def test_cancelling_keeps_what_is_finished(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    await wish_midway(desk, Wish.CANCEL)
    assert desk.job.state is JobState.CANCELLED
    assert ids(desk.results("output")) == TEXTS[:8]
    errors = desk.results("errors")
    assert ids(errors) == TEXTS[8:]
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert desk.result.counts == Counts(40, 8, 32)
    assert desk.checkpoint.cancelling_at == desk.clock.wall()


def test_a_batch_that_is_to_be_cancelled_says_since_when_from_the_first_moment(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    assert view(desk.job, 2000.0).cancelling_at is None
    desk.wish(Wish.CANCEL)
    assert (view(desk.job, 2000.0).status, view(desk.job, 2000.0).cancelling_at) == (BatchStatus.CANCELLING, 2000.0)


async def test_an_expired_batch_tells_of_the_lines_that_did_not_run(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    await wish_midway(desk, Wish.EXPIRE)
    assert desk.job.state is JobState.EXPIRED
    assert ids(desk.results("output")) == TEXTS[:8]
    errors = desk.results("errors")
    assert ids(errors) == TEXTS[8:]
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert {line["response"] for line in errors} == {None}
    assert desk.result.counts == Counts(40, 8, 32)


async def test_a_batch_that_is_cancelled_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.wish(Wish.CANCEL)
    await desk.lease()
    assert desk.job.state is JobState.CANCELLED
    assert (desk.result.output, desk.result.errors) == (None, None)
    assert desk.endpoint.asked == []


async def test_a_batch_that_expires_before_it_began_tells_so_of_every_line(tmp_path: Path) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.wish(Wish.EXPIRE)
    await desk.lease()
    assert desk.job.state is JobState.EXPIRED
    assert ids(desk.results("errors")) == TEXTS


@pytest.mark.parametrize(("wish", "state"), [(Wish.PAUSE, JobState.PAUSED), (Wish.CANCEL, JobState.CANCELLED)])
async def test_checking_the_input_can_be_interrupted(tmp_path: Path, wish: Wish, state: JobState) -> None:
    desk = Desk(tmp_path, asks(*TEXTS))
    desk.blobs.on_piece = lambda: desk.wish(wish) if desk.job.wish is Wish.NONE else None
    await desk.lease()
    assert desk.job.state is state
    assert desk.endpoint.asked == []
    assert desk.checkpoint.plan is None


@given(
    kills=st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=6),
    failing=st.sets(st.sampled_from(TEXTS), max_size=5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_killed_at_any_checkpoint_each_line_has_one_result_and_none_is_run_after_its_commit(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[int, bool]], failing: set[str]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("job"), asks(*TEXTS))
    committed: set[str] = set()
    for text in failing:
        desk.endpoint.refusals[text] = [InvalidRequest("no") for _ in range(10)]

    def permit(_: BatchCheckpoint) -> None:
        for _ in range(8):
            permits.release()

    desk.on_checkpoint = permit
    for kill_at, heard in [*kills, (0, False)]:
        if desk.job.state is JobState.QUEUED:
            before = len(desk.endpoint.asked)
            done_before = desk.checkpoint.counts
            desk.endpoint.permits = permits = asyncio.Semaphore(8)
            await desk.lease(kill_at=kill_at, heard=heard)
            assert not committed & set(desk.endpoint.asked[before:])
            committed = committed_texts(desk)
            assert len(committed) == desk.checkpoint.counts.completed + desk.checkpoint.counts.failed
            assert desk.checkpoint.counts.completed >= done_before.completed
    if desk.job.state is JobState.SUCCEEDED:
        assert ids(desk.results("output")) == [text for text in TEXTS if text not in failing]
        assert ids(desk.results("errors")) == [text for text in TEXTS if text in failing]
        answered = 40 - len(failing)
        assert desk.result.counts == Counts(40, answered, len(failing))
        assert desk.result.usage == TokenSums(3 * answered, answered, 2 * answered)
    else:
        assert desk.job.failures > 5


def found_in(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def committed_texts(desk: Desk) -> set[str]:
    """Of the lines whose results the last checkpoint covers."""
    found: list[str] = []
    for segment in desk.checkpoint.segments:
        content = (desk.folder / segment.name).read_bytes()[: segment.length]
        found += [TEXTS[int(record.split(b" ", 1)[0])] for record in content.splitlines()]
    assert len(found) == len(set(found))
    return set(found)
