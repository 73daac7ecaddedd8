"""The books of a replica, with sockets that only the test reads."""

import socket
import threading
from collections.abc import Iterator

import pytest

from pileus.core.records import (
    Capabilities,
    ChoiceState,
    Continuation,
    Credit,
    Emission,
    EngineRequest,
    EngineStats,
    Finish,
    FinishReason,
    SamplingParams,
    Started,
    StepOutput,
)
from pileus.engines.replica import wire
from pileus.engines.replica.switchboard import Gateway, Switchboard, split

CAPABILITIES = Capabilities(
    model="m",
    max_context=100,
    slots=8,
    kv_blocks=16,
    block_size=4,
    continuation=Continuation.CONTINUABLE,
    vocab_size=5,
)
EPOCH = 2


class Peer:
    """One gateway's end of a connection."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._socket, other = socket.socketpair()
        self._socket.setblocking(False)
        other.setblocking(False)
        self._inbox = wire.FrameBuffer()
        self._switchboard = switchboard
        self.gateway: Gateway = switchboard.join(other)
        [self.hello] = self.heard()
        assert isinstance(self.hello, wire.Hello)
        self.first_id = self.hello.first_id

    def heard(self) -> list[wire.Up]:
        """The frames that have come since the last call."""
        try:
            received = self._socket.recv_into(self._inbox.room())
        except BlockingIOError:
            return []
        return [wire.decode_up(payload) for payload in self._inbox.frames(received)]

    def submit(self, number: int, *, choices: int = 1, epoch: int = EPOCH) -> EngineRequest | None:
        states = tuple(ChoiceState(index) for index in range(choices))
        params = SamplingParams(max_tokens=1, seed=1)
        request = EngineRequest(self.first_id + number, (1,), params, states)
        return self._switchboard.enter(self.gateway, wire.Submit(epoch, request))

    def close(self) -> None:
        self._socket.close()
        self.gateway.connection.close()


@pytest.fixture
def switchboard() -> Switchboard:
    return Switchboard(
        replica="fake/0", epoch=EPOCH, capabilities=CAPABILITIES, outbox_bytes=1 << 20, wake=lambda: None
    )


@pytest.fixture
def peers(switchboard: Switchboard) -> Iterator[tuple[Peer, Peer]]:
    first, second = Peer(switchboard), Peer(switchboard)
    yield first, second
    first.close()
    second.close()


def step(*requests: int, seen: int, ends: bool = True, slots: int = 8) -> StepOutput:
    """One token of each request, and its end."""
    return StepOutput(
        tuple(Started(request, 0, 0.0, 0.0) for request in requests),
        tuple(Emission(request, 0, (request % 7,)) for request in requests),
        tuple(Finish(request, 0, FinishReason.LENGTH) for request in requests if ends),
        Credit(slots, 16, seen),
    )


def test_each_gateway_hears_of_its_own_requests_only(switchboard: Switchboard, peers: tuple[Peer, Peer]) -> None:
    first, second = peers
    a, b = first.submit(1), second.submit(1)
    assert a
    assert b
    switchboard.deliver(step(a.id, b.id, seen=2))
    for peer, request in ((first, a), (second, b)):
        [frame] = peer.heard()
        assert isinstance(frame, wire.Step)
        assert {item.request for item in (*frame.started, *frame.emissions, *frame.finishes)} == {request.id}
        assert frame.credit == Credit(8, 16, 1)


def test_who_has_no_part_in_a_step_hears_of_the_credit_when_it_changed(
    switchboard: Switchboard, peers: tuple[Peer, Peer]
) -> None:
    first, second = peers
    request = first.submit(1)
    assert request
    switchboard.deliver(step(request.id, seen=1, ends=False, slots=7))
    assert second.heard() == [wire.Grant(EPOCH, Credit(7, 16, 0))]
    switchboard.deliver(step(request.id, seen=1, ends=False, slots=7))
    assert second.heard() == []
    assert len(first.heard()) == 2


def test_what_a_departed_gateway_asked_for_is_told_to_nobody(
    switchboard: Switchboard, peers: tuple[Peer, Peer]
) -> None:
    first, second = peers
    request = first.submit(1, choices=2)
    assert request
    assert switchboard.leave(first.gateway) == [request.id]
    assert switchboard.busy()
    switchboard.deliver(step(request.id, seen=1))
    switchboard.deliver(StepOutput(finishes=(Finish(request.id, 1, FinishReason.CANCELLED),), credit=Credit(8, 16, 1)))
    assert not switchboard.busy()
    assert not any(isinstance(frame, wire.Step) for frame in second.heard())


def test_a_submit_that_is_refused_counts_as_seen_in_its_turn(
    switchboard: Switchboard, peers: tuple[Peer, Peer]
) -> None:
    first, _ = peers
    taken = first.submit(1)
    assert taken
    assert first.submit(2, epoch=EPOCH + 1) is None
    [lost] = first.heard()
    assert isinstance(lost, wire.Lost)
    switchboard.deliver(step(seen=0, slots=7))
    assert first.heard() == [wire.Grant(EPOCH, Credit(7, 16, 0))]
    switchboard.deliver(step(taken.id, seen=1))
    [frame] = first.heard()
    assert isinstance(frame, wire.Step)
    assert frame.credit.seen == 2


def test_a_gateway_that_comes_while_draining_is_told_so(switchboard: Switchboard) -> None:
    switchboard.drain()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        switchboard.join(near)
        inbox = wire.FrameBuffer()
        received = far.recv_into(inbox.room())
        frames = [wire.decode_up(payload) for payload in inbox.frames(received)]
    assert frames[1:] == [wire.Drain(EPOCH)]


def test_a_connection_that_is_gone_is_found_out_when_something_is_sent(
    switchboard: Switchboard, peers: tuple[Peer, Peer]
) -> None:
    first, second = peers
    first.close()
    switchboard.send_stats(EngineStats)
    assert first.gateway.broken
    assert not second.gateway.broken
    assert len(second.heard()) == 1


def test_no_figures_are_told_after_a_step_that_they_do_not_count(
    switchboard: Switchboard, peers: tuple[Peer, Peer]
) -> None:
    first, _ = peers
    first.submit(1)
    stepping = threading.Thread(target=switchboard.deliver, args=(step(first.first_id + 1, seen=1),))

    def figures_while_a_step_ends() -> EngineStats:
        stepping.start()
        stepping.join(0.1)  # it ends within that only if nothing keeps it from overtaking
        return EngineStats()

    switchboard.send_stats(figures_while_a_step_ends)
    stepping.join()
    assert [type(frame) for frame in first.heard()] == [wire.Stats, wire.Step]


def test_a_step_is_split_without_loss_and_in_order() -> None:
    other = 1 << wire.ID_BITS
    parts = split(step(1, other + 1, 2, other + 9, seen=4))
    assert [emission.request for emission in parts[0].emissions] == [1, 2]
    assert [emission.request for emission in parts[1].emissions] == [other + 1, other + 9]
    assert {part.credit for part in parts.values()} == {Credit(8, 16, 4)}
