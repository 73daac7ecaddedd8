"""A gateway's link and a replica, over a real socket."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pileus.core.errors import Unavailable
from pileus.core.records import Emission, EngineRequest, FinishReason, SamplingParams, Started
from pileus.engines.replica import server, wire
from pileus.engines.replica.client import ReplicaLink, demand
from replicas import EPOCH, PATIENCE_S, REPLICA, RecordingSink, WatchedLink, ask, hosted

PACED = {"step_s": 0.002}
LONG = 4000
A_SECOND = 500  # paced; what the test does meanwhile takes a hundredth of that
PARAMS = SamplingParams(max_tokens=1, seed=1)


async def answer(link: ReplicaLink, **wishes: Any) -> RecordingSink:
    request = ask(**wishes)
    sink = RecordingSink(len(request.choices))
    link.submit(request, sink)
    await sink.end()
    return sink


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[WatchedLink]:
    """A link to a replica that takes 2 ms per step."""
    with hosted(tmp_path, PACED) as host:
        yield await host.link()


async def test_a_request_is_answered_in_order_start_tokens_finish(link: WatchedLink) -> None:
    sink = await answer(link, max_tokens=5)
    assert [type(item).__name__ for item in sink.heard] == ["Started", *["Emission"] * 5, "Finish"]
    assert sink.finishes[0].reason is FinishReason.LENGTH


async def test_each_choice_finishes_once(link: WatchedLink) -> None:
    sink = await answer(link, max_tokens=3, choices=3)
    assert sorted(finish.choice for finish in sink.finishes) == [0, 1, 2]
    assert isinstance(sink.heard[0], Started)


async def test_many_requests_at_once_each_get_their_own_answer(link: WatchedLink) -> None:
    together = await asyncio.gather(*(answer(link, seed=seed) for seed in range(20)))
    for seed in range(20):
        assert together[seed].tokens == (await answer(link, seed=seed)).tokens


async def test_after_a_cancel_the_sink_hears_nothing_more_and_all_is_free(link: WatchedLink) -> None:
    sink = RecordingSink()
    request_id = link.submit(ask(LONG), sink)
    await sink.until_tokens(2)
    link.cancel(request_id)
    heard = len(sink.heard)
    link.cancel(request_id)
    await link.until(lambda: link.available().slots == 64)
    assert (link.stats.running, link.stats.kv_blocks_used) == (0, 0)
    assert len(sink.heard) == heard


async def test_a_cancelled_choice_ends_and_the_others_go_on(link: WatchedLink) -> None:
    sink = RecordingSink(2)
    request_id = link.submit(ask(A_SECOND, choices=2), sink)
    await sink.until_tokens(2)
    link.cancel_choice(request_id, 0)
    await sink.end()
    assert [(finish.choice, finish.reason) for finish in sink.finishes] == [
        (0, FinishReason.CANCELLED),
        (1, FinishReason.LENGTH),
    ]


async def test_a_cancel_from_within_an_emission_silences_the_same_frame(link: WatchedLink) -> None:
    ids: list[int] = []
    sink = RecordingSink(2, on_emission=lambda: link.cancel(ids[0]))
    ids.append(link.submit(ask(LONG, choices=2), sink))
    await sink.until_tokens(1)
    await answer(link)
    assert [type(item) for item in sink.heard] == [Started, Emission]


async def test_what_is_submitted_counts_at_once_and_not_twice(link: WatchedLink) -> None:
    sinks = [RecordingSink(2), RecordingSink()]
    ids = [
        link.submit(ask(LONG, prompt=(1,) * 70, choices=2), sinks[0]),
        link.submit(ask(LONG, prompt=(1,) * 10), sinks[1]),
    ]
    assert link.available().slots == 64 - 3
    assert link.available().kv_blocks == 4096 - (3 + 2) - (1 + 1)
    await sinks[1].until_tokens(1)
    assert link.available().slots == 64 - 3
    for request_id in ids:
        link.cancel(request_id)
    await link.until(lambda: link.available().slots == 64)
    assert link.available().kv_blocks == 4096


async def test_demand_counts_the_prompt_once_and_what_each_choice_has_said() -> None:
    assert demand(ask(prompt=(1,) * 33, choices=2), 32).kv_blocks == 2 + 2


async def test_more_room_is_told(link: WatchedLink) -> None:
    told = asyncio.Event()
    link.on_change.append(told.set)
    await answer(link)
    await asyncio.wait_for(told.wait(), 5)


async def test_a_lost_connection_is_told_once_to_each_open_sink(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED) as host:
        link = await host.link()
        sinks = [RecordingSink() for _ in range(3)]
        for sink in sinks:
            link.submit(ask(LONG), sink)
        ended = await answer(link, max_tokens=1)
        host.engine.close()
        await asyncio.wait_for(link.lost, 5)
    assert [sink.losses for sink in sinks] == [[link.lost.result()]] * 3
    assert ended.losses == []
    late = RecordingSink()
    link.submit(ask(), late)
    await late.end()
    assert late.losses == [link.lost.result()]


async def test_a_link_is_given_up_once_however_often_it_is_closed(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED) as host:
        link = await host.link()
        sink = RecordingSink()
        link.submit(ask(LONG), sink)
        link.close("first")
        link.close("second")
        assert sink.losses == ["first"]
        assert link.lost.result() == "first"


async def test_when_a_gateway_goes_its_requests_end_and_the_others_go_on(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED) as host:
        leaves, stays = await host.link(), await host.link()
        gone = RecordingSink()
        leaves.submit(ask(LONG, choices=4), gone)
        await gone.until_tokens(8)
        kept = RecordingSink()
        stays.submit(ask(200), kept)
        await kept.until_tokens(2)
        leaves.close("the test leaves")
        await stays.until(lambda: stays.stats.running == 1)
        await kept.end()
        assert kept.finishes
        assert kept.tokens == (await answer(stays, max_tokens=200)).tokens


async def test_two_gateways_hear_only_of_their_own_requests(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED) as host:
        first, second = await host.link(), await host.link()
        sinks = await asyncio.gather(answer(first, seed=1), answer(second, seed=2), answer(first, seed=3))
        assert [len(sink.tokens) for sink in sinks] == [8, 8, 8]
        await first.until(lambda: first.available() != second.available())  # they differ in what was seen of each
        assert (first.available().seen, second.available().seen) == (2, 1)


async def test_a_gateway_that_does_not_read_loses_its_requests_alone(tmp_path: Path) -> None:
    with hosted(tmp_path, {"step_s": 0.0001}, outbox_bytes=20_000) as host:
        stays = await host.link()
        kept = RecordingSink()
        stays.submit(ask(2000), kept)
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(wire.socket_path(host.address)))
            second = 1 << wire.ID_BITS  # the range of the second connection
            for number in range(1, 33):
                request = EngineRequest(second + number, (1, 2, 3), SamplingParams(max_tokens=3000, seed=1))
                deaf.sendall(wire.pack(wire.Submit(EPOCH, request)))
            await stays.until(lambda: stays.stats.prompt_tokens == 33 * 3 and stays.stats.running <= 1)
            assert stays.stats.generated_tokens < 32 * 3000
        await kept.end()
        assert len(kept.tokens) == 2000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc0",
        wire.pack(wire.Submit(EPOCH, EngineRequest(1 << 40, (1,), PARAMS))),
        wire.pack(wire.Submit(EPOCH, EngineRequest(0, (1,), PARAMS))),
        wire.pack(wire.Submit(EPOCH, EngineRequest(1, (1,), PARAMS, ()))),
        wire.pack(wire.Drain(EPOCH)),
    ],
    ids=["http", "huge", "nil", "foreign-id", "old-id", "no-choices", "wrong-way"],
)
async def test_whoever_breaks_the_protocol_is_cut_off_and_nobody_else(tmp_path: Path, sent: bytes) -> None:
    with hosted(tmp_path) as host:
        link = await host.link()
        reader, writer = await asyncio.open_unix_connection(str(wire.socket_path(host.address)))
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert (await answer(link)).finishes


async def test_a_submit_for_another_epoch_is_refused(tmp_path: Path) -> None:
    with hosted(tmp_path) as host:
        link = await host.link()
        link.epoch = EPOCH + 1
        sent = RecordingSink()
        link.submit(ask(), sent)
        link.epoch = EPOCH
        await sent.end()
        assert "epoch" in sent.losses[0]
        assert (await answer(link)).finishes
        await link.until(lambda: link.available().slots == 64)


async def test_a_link_does_not_take_another_epochs_replica(tmp_path: Path) -> None:
    with hosted(tmp_path) as host, pytest.raises(Unavailable, match=f"epoch {EPOCH} answered instead of 4"):
        await asyncio.wait_for(ReplicaLink.connect(host.address, replica=REPLICA, epoch=4), 5)


async def test_draining_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED) as host:
        link = await host.link()
        runs = RecordingSink()
        link.submit(ask(A_SECOND), runs)
        await runs.until_tokens(1)
        host.replica.drain()
        await link.until(lambda: link.draining)
        late = RecordingSink()
        link.submit(ask(), late)
        await late.end()
        assert late.losses == ["the replica is draining"]
        await asyncio.wait_for(link.lost, 10)
        assert len(runs.tokens) == A_SECOND
        assert runs.losses == []


async def test_draining_ends_when_the_grace_is_over(tmp_path: Path) -> None:
    with hosted(tmp_path, PACED, grace_s=0.2) as host:
        link = await host.link()
        runs = RecordingSink()
        link.submit(ask(8000), runs)
        host.replica.drain()
        await runs.end()
        assert len(runs.losses) == 1


async def test_a_large_answer_arrives_whole_through_a_full_socket(tmp_path: Path) -> None:
    with hosted(tmp_path) as host:
        link = await host.link()
        sinks = await asyncio.gather(*(answer(link, max_tokens=3000, seed=seed) for seed in range(32)))
        assert {len(sink.tokens) for sink in sinks} == {3000}


async def test_the_socket_is_for_this_user_alone_and_goes_with_the_replica(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with hosted(tmp_path) as host:
        await host.link()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_figures_come_by_themselves(link: WatchedLink) -> None:
    await link.until(lambda: link.stats.slots == 64)
    await answer(link, max_tokens=600)
    await link.until(lambda: link.tokens_per_s > 0)
    assert link.step_s >= 0.002
    assert link.capabilities.block_size == 32


async def test_the_figures_count_everything_as_soon_as_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STATS_INTERVAL_S", 3600.0)
    with hosted(tmp_path, PACED) as host:
        link = await host.link()
        await answer(link, max_tokens=5)
        await link.until(lambda: link.stats.generated_tokens == 5)
        assert (link.stats.running, link.stats.kv_blocks_used) == (0, 0)


async def test_a_replica_that_can_hear_nobody_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosted(tmp_path) as host:
        link = await host.link()

        def broken() -> NoReturn:
            raise BrokenPipeError

        monkeypatch.setattr(host.engine, "stats", broken)
        await asyncio.wait_for(link.lost, PATIENCE_S)
        await asyncio.to_thread(host.thread.join, PATIENCE_S)
        assert host.replica.failed
