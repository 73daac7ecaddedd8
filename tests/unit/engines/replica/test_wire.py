import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.core.errors import OperatorError
from pileus.core.ports import AdapterSource
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
    TokenLogprobs,
)
from pileus.engines.replica import wire

CAPABILITIES = Capabilities(
    model="m",
    max_context=1,
    slots=2,
    kv_blocks=3,
    block_size=4,
    continuation=Continuation.CONTINUABLE,
    vocab_size=5,
)
PARAMS = SamplingParams(max_tokens=5, seed=2**62, logit_bias={7: -1.5}, stop_ids=(1, 2), logprobs=2)
UP: list[wire.Up] = [
    wire.Hello(wire.PROTOCOL, 9, "fake/0", 1 << wire.ID_BITS, CAPABILITIES, Credit(1, 2)),
    wire.Step(
        9,
        (Started(1, 32, 0.5, 0.25),),
        (Emission(1, 0, (7, 8), (TokenLogprobs(-0.5, ((7, -0.5), (8, -1.0))), TokenLogprobs(-1.0))),),
        (Finish(1, 0, FinishReason.STOP, 0.1), Finish(2, 1, FinishReason.ERROR, error="é")),
        Credit(1, 2, 3),
    ),
    wire.Grant(9, Credit(4, 5, 6)),
    wire.Stats(9, EngineStats(running=3, step_s=0.5)),
    wire.Lost(9, 3, "the replica is draining"),
    wire.Drain(9),
    wire.Adapted(9, 4, (("a@1", "too wide"),)),
]
DOWN: list[wire.Down] = [
    wire.Submit(9, EngineRequest(5, (1, 2), PARAMS, (ChoiceState(0, (9,)), ChoiceState(1)), b"salt")),
    wire.Cancel(5),
    wire.Adapter(4, (AdapterSource("a@1", "/models/a"),), ("b@2",)),
]


def receive(buffer: wire.FrameBuffer, data: bytes) -> list[bytes]:
    """Feed a stream in pieces as large as the buffer takes."""
    payloads = []
    while data:
        room = buffer.room()
        taken = min(len(room), len(data))
        room[:taken] = data[:taken]
        data = data[taken:]
        payloads += [bytes(payload) for payload in buffer.frames(taken)]
    return payloads


@pytest.mark.parametrize("frame", UP)
def test_what_a_replica_says_arrives_as_it_was(frame: wire.Up) -> None:
    [payload] = receive(wire.FrameBuffer(), wire.pack(frame))
    assert wire.decode_up(payload) == frame


@pytest.mark.parametrize("frame", DOWN)
def test_what_a_gateway_says_arrives_as_it_was(frame: wire.Down) -> None:
    [payload] = receive(wire.FrameBuffer(), wire.pack(frame))
    assert wire.decode_down(payload) == frame


def test_a_buffer_that_is_used_again_holds_the_same_frame() -> None:
    buffer = bytearray()
    for frame in (*UP, *reversed(UP)):
        wire.pack_into(frame, buffer)
        assert bytes(buffer) == wire.pack(frame)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_whole_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
    buffer = wire.FrameBuffer()
    received: list[bytes] = []
    turn = 0
    while stream:
        cut = cuts[turn % len(cuts)]
        received += receive(buffer, stream[:cut])
        stream, turn = stream[cut:], turn + 1
    assert received == payloads


def test_frames_larger_than_the_buffer_come_out_whole_among_small_ones() -> None:
    payloads = [b"a" * 10, b"b" * 3_000_000, b"c", b"d" * 300_000, b"e" * 299_999, b""]
    stream = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
    assert receive(wire.FrameBuffer(), stream) == payloads


def test_a_frame_that_is_too_large_is_refused_by_its_length_alone() -> None:
    with pytest.raises(wire.WireError, match="bytes"):
        receive(wire.FrameBuffer(), (wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_frame_are_refused_as_such(payload: bytes) -> None:
    for decode in (wire.decode_up, wire.decode_down):
        try:
            frame = decode(payload)
        except msgspec.MsgspecError:
            continue
        assert isinstance(frame, wire.Up | wire.Down)


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:80", "/tmp/x.sock", "unix:", "unix:x.sock", "unix:/" + "x" * 107])
def test_an_address_that_cannot_be_listened_on_is_refused_in_words(address: str) -> None:
    with pytest.raises(OperatorError, match=r"address|longer"):
        wire.socket_path(address)


def test_the_longest_path_that_the_system_takes_is_taken() -> None:
    assert str(wire.socket_path("unix:/" + "x" * 106)) == "/" + "x" * 106
