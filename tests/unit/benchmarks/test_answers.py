"""Only a whole answer of the length asked for becomes a figure."""

import json

import pytest

from benchmarks.answers import BadAnswer, read_stream, read_whole
from benchmarks.client import RawAnswer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text(word: str, reason: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "text": word, "finish_reason": reason}])


def usage(completion: int, prompt: int = 7) -> bytes:
    return event(choices=[], usage={"completion_tokens": completion, "prompt_tokens": prompt})


DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def streamed(*bodies: bytes) -> RawAnswer:
    """Each body is a chunk that comes at second 1, 2, 3, ..., sent at second 0; the end comes with the last."""
    arrivals = [(float(at), chunk(body)) for at, body in enumerate(bodies, start=1)]
    arrivals[0] = (1.0, HEAD + arrivals[0][1])
    arrivals[-1] = (arrivals[-1][0], arrivals[-1][1] + END)
    return RawAnswer(0.0, arrivals)


def test_a_stream_tells_when_each_piece_came_and_how_many_tokens_there_were() -> None:
    line = read_stream(streamed(text("a"), text("b"), text("", "length"), usage(2) + DONE), tokens=2)
    assert (line.sent_s, line.pieces_s, line.tokens, line.prompt_tokens) == (0.0, (1.0, 2.0), 2, 7)


def test_a_stream_tells_how_much_of_the_prompt_was_cached() -> None:
    told = {"completion_tokens": 1, "prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}
    line = read_stream(streamed(text("a", "length"), event(choices=[], usage=told) + DONE), tokens=1)
    assert line.cached_tokens == 5


def test_a_chat_stream_is_read_like_a_completion() -> None:
    role = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    word = event(choices=[{"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}])
    assert read_stream(streamed(role, word, usage(1) + DONE), tokens=1).pieces_s == (2.0,)


def test_a_piece_counts_when_its_last_byte_has_come() -> None:
    whole = text("a")
    line = read_stream(streamed(whole[:9], whole[9:], text("", "length") + usage(1) + DONE), tokens=1)
    assert line.pieces_s == (2.0,)


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([text("a"), text("", "length"), usage(1) + DONE], id="too few tokens"),
        pytest.param([text("a"), text("", "length"), usage(3) + DONE], id="too many tokens"),
        pytest.param([text("a"), text("", "stop"), usage(2) + DONE], id="stopped by itself"),
        pytest.param([text("a"), text("", "length"), DONE], id="no usage"),
        pytest.param([text("a"), text("", "length"), usage(2)], id="no DONE"),
        pytest.param([text("", "length"), usage(2) + DONE], id="no text"),
        pytest.param([text("a"), text("", "length"), usage(2), DONE, text("b")], id="text after DONE"),
        pytest.param([text("a"), event(error={"message": "lost"}), usage(2) + DONE], id="an error"),
    ],
)
def test_a_stream_that_is_not_what_was_asked_for_is_refused(bodies: list[bytes]) -> None:
    with pytest.raises(BadAnswer):
        read_stream(streamed(*bodies), tokens=2)


def test_a_stream_that_was_cut_off_is_refused() -> None:
    raw = streamed(text("a"), text("b", "length"), usage(2) + DONE)
    at, data = raw.arrivals[-1]
    raw.arrivals[-1] = (at, data.removesuffix(END))
    with pytest.raises(BadAnswer, match="no end"):
        read_stream(raw, tokens=2)


def test_a_refusal_is_told_with_its_status() -> None:
    body = b'{"error":{"message":"busy"}}'
    raw = RawAnswer(0.0, [(1.0, b"HTTP/1.1 503 x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))])
    with pytest.raises(BadAnswer, match=r"status 503.*busy"):
        read_stream(raw, tokens=2)
    with pytest.raises(BadAnswer, match=r"status 503.*busy"):
        read_whole(raw, tokens=2)


def test_a_whole_answer_tells_its_length_and_its_headers() -> None:
    body = usage(2).removeprefix(b"data: ").strip()
    head = b"HTTP/1.1 200 OK\r\nX-Pileus-Decode-Ms: 1.25\r\ncontent-length: %d\r\n\r\n" % len(body)
    whole = read_whole(RawAnswer(1.0, [(2.0, head), (3.0, body)]), tokens=2)
    assert (whole.sent_s, whole.done_s, whole.headers["x-pileus-decode-ms"]) == (1.0, 3.0, "1.25")
    with pytest.raises(BadAnswer, match="asked for 3"):
        read_whole(RawAnswer(1.0, [(2.0, head), (3.0, body)]), tokens=3)
