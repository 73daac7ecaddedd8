"""Requests to encoders: their texts, their answer, and what becomes of them when a replica is lost."""

import asyncio
from array import array
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.config.settings import Limits
from pileus.core.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, Quarantined
from pileus.core.ports import ReplicaSink
from pileus.core.records import Encoded, EncodeOutput, EncodeRequest, EncodingRequest, Finish, FinishReason, Pooling
from pileus.gateway.encoding import EncodeWork, TextsEncoding
from pileus.gateway.texts import by_segments, output_of, pack
from pileus.gateway.vectors import floats, packed
from pileus.testing.text_encoder import END, FAKE_ENCODING, START, ByteTextEncoder
from unbilled import principal
from unit.gateway.house import House, Replica

MODEL = ByteTextEncoder()
TEXTS = tuple(array("I", [START, letter, END]).tobytes() for letter in b"abc")


class EncodingReplica(Replica):
    def encode(self, request: EncodeRequest, sink: ReplicaSink) -> int:
        self.requests.append(cast(Any, request))
        self.free_slots -= 1
        return len(self.requests)


def asked(**wishes: Any) -> EncodingRequest:
    return EncodingRequest(**({"id": "req_1", "model": "d", "operation": "embeddings", "texts": ("abc",)} | wishes))


def started(house: House) -> TextsEncoding:
    work = EncodeWork(asked(), principal("t"), "d", TEXTS, (), EncodeOutput())
    encoding = TextsEncoding(work, FAKE_ENCODING, house.scheduler, house.clock, 0.0)
    house.dispatcher.enqueue(encoding)
    return encoding


def sent(replica: Replica) -> list[tuple[bytes, ...]]:
    return [cast(EncodeRequest, request).texts for request in replica.requests]


async def test_the_answer_is_whole_and_in_the_order_of_the_texts() -> None:
    house = House(EncodingReplica())
    encoding = started(house)
    reading = asyncio.create_task(encoding.whole())
    encoding.on_encoded(Encoded(1, (2, 0), (b"c", b"a")))
    await asyncio.sleep(0)
    assert not reading.done()
    encoding.on_encoded(Encoded(1, (1,), (b"b",)))
    encoding.on_finish(Finish(1, 0, FinishReason.STOP))
    assert (await reading).values == [b"a", b"b", b"c"]
    assert encoding.usage.prompt_tokens == 9
    assert house.endings == ["stop"]


async def test_after_a_loss_only_the_texts_that_are_left_go_elsewhere() -> None:
    first, second = EncodingReplica(), EncodingReplica()
    house = House(first)
    encoding = started(house)
    encoding.on_encoded(Encoded(1, (1,), (b"b",)))
    house.serve_with(second)
    encoding.on_lost("it died")
    assert sent(first) == [TEXTS]
    assert sent(second) == [(TEXTS[0], TEXTS[2])]
    encoding.on_encoded(Encoded(1, (0, 1), (b"a", b"c")))
    encoding.on_finish(Finish(1, 0, FinishReason.STOP))
    assert (await encoding.whole()).values == [b"a", b"b", b"c"]
    assert encoding.usage.prompt_tokens == 9


async def test_a_request_that_was_there_at_two_deaths_is_not_tried_again() -> None:
    house = House(EncodingReplica(), EncodingReplica(), EncodingReplica())
    encoding = started(house)
    encoding.on_lost("one")
    encoding.on_lost("two")
    with pytest.raises(Quarantined):
        await encoding.whole()
    assert encoding.usage.prompt_tokens == 0


async def test_a_failure_owes_nothing_and_an_end_without_all_texts_is_one() -> None:
    house = House(EncodingReplica())
    encoding = started(house)
    encoding.on_encoded(Encoded(1, (0,), (b"a",)))
    encoding.on_finish(Finish(1, 0, FinishReason.STOP))
    with pytest.raises(EngineFailed):
        await encoding.whole()
    assert encoding.usage.prompt_tokens == 0
    assert house.endings == ["engine_failed"]


async def test_who_leaves_pays_for_what_was_encoded() -> None:
    replica = EncodingReplica()
    house = House(replica)
    encoding = started(house)
    encoding.on_encoded(Encoded(1, (0,), (b"a",)))
    encoding.cancel()
    assert encoding.usage.prompt_tokens == 3
    assert replica.cancelled == [1]
    assert house.endings == ["cancelled"]


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"dimensions": 17}, "dimensions"),
        ({"operation": "rerank"}, "model"),
        ({"operation": "features", "layer": 3}, "layer"),
        ({"operation": "features", "layer": -4}, "layer"),
    ],
)
def test_what_a_model_does_not_have_is_refused(wishes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        output_of(asked(**wishes), MODEL)
    assert refusal.value.param == param


def test_layers_count_from_both_ends() -> None:
    layers = [output_of(asked(operation="features", layer=layer), MODEL).layer for layer in (-3, 0, -2, 1, 2, -1)]
    assert layers == [0, 0, 1, 1, -1, -1]
    assert output_of(asked(), MODEL) == EncodeOutput(pooling=Pooling.MEAN, normalise=True)
    assert not output_of(asked(operation="features"), MODEL).normalise


async def test_long_texts_are_refused_by_number_or_cut() -> None:
    with pytest.raises(ContextLengthExceeded, match="text 1 has 602 tokens"):
        await pack(asked(texts=("a", "b" * 600)), MODEL, Limits())
    cut = await pack(asked(texts=("a", "b" * 600), truncate_to=-1), MODEL, Limits())
    assert [len(text) // 4 for text in cut.texts] == [3, 512]
    with pytest.raises(InvalidRequest, match="at most 512"):
        await pack(asked(truncate_to=513), MODEL, Limits())


async def test_bounds_hold_for_all_texts_together() -> None:
    with pytest.raises(InvalidRequest, match="at most 2 are"):
        await pack(asked(texts=("a",) * 3), MODEL, Limits(max_texts=2))
    with pytest.raises(ContextLengthExceeded, match="9 tokens together"):
        await pack(asked(texts=("a",) * 3), MODEL, Limits(max_texts_tokens=8))


async def test_pairs_tell_where_the_second_begins() -> None:
    packed = await pack(asked(operation="rerank", query="ab", texts=("c", "de")), MODEL, Limits())
    assert packed.seconds == (4, 4)
    assert [len(text) // 4 for text in packed.texts] == [6, 7]


async def test_long_texts_become_segments_beside_those_that_fit() -> None:
    texts = ("a", "b" * 1000, (START, *b"c" * 600, END))
    found = await pack(asked(texts=texts), MODEL, Limits(), segments=True)
    lengths = [len(text) // 4 for text in found.texts]
    assert lengths == [3, 378, 378, 378, 334, 334]
    assert [(text[:4], text[-4:]) for text in found.texts] == [(TEXTS[0][:4], TEXTS[0][-4:])] * 6
    assert [(len(each), sum(each)) for each in found.weights] == [(1, 3), (3, 1000), (2, 600)]
    assert (await pack(asked(texts=("a", "b")), MODEL, Limits(), segments=True)).weights == ()


async def test_each_segment_of_a_document_has_the_query_in_front() -> None:
    request = asked(operation="rerank", query="ab", texts=("c" * 600, "de"))
    found = await pack(request, MODEL, Limits(), segments=True)
    begin = array("I", [START, *b"ab", END]).tobytes()
    assert all(text.startswith(begin) for text in found.texts)
    assert found.seconds == (4, 4, 4)
    assert [len(each) for each in found.weights] == [2, 1]


@pytest.mark.parametrize(("query", "room"), [(512, 0), (508, 1), (446, 63)])
async def test_a_query_that_leaves_too_little_room_in_each_segment_is_refused(query: int, room: int) -> None:
    words = rf"The query has {query + 2} tokens .* in 512 that leaves room for {room} of a document"
    with pytest.raises(ContextLengthExceeded, match=words) as refusal:
        await pack(asked(operation="rerank", query="q" * query, texts=("c" * 80,)), MODEL, Limits(), segments=True)
    assert refusal.value.param == "query"


@pytest.mark.parametrize(
    ("wishes", "param", "words"),
    [
        ({"query": "q" * 509}, "query", "has 511 tokens .* in 512 that leaves room for 0 .* at least 1"),
        ({"query": "q" * 509, "truncate_to": -1}, "query", "in 512 that leaves room for 0"),
        ({"query": "q" * 5, "truncate_to": 8}, "query", "has 7 tokens .* in 8 that leaves room for 0"),
        (
            {"query": "q" * 497},
            "documents",
            "The query before each document has 1000000 tokens together; at most 300000",
        ),
    ],
)
async def test_a_query_is_counted_before_it_is_tokenised_with_each_document(
    monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any], param: str, words: str
) -> None:
    monkeypatch.delattr(ByteTextEncoder, "encode_pairs")
    with pytest.raises(ContextLengthExceeded, match=words) as refusal:
        await pack(asked(operation="rerank", texts=("c",) * 2000, **wishes), MODEL, Limits())
    assert refusal.value.param == param


async def test_a_document_may_be_cut_to_one_token() -> None:
    found = await pack(asked(operation="rerank", query="q" * 5, texts=("cde",), truncate_to=9), MODEL, Limits())
    assert found.texts == (array("I", [START, *b"qqqqq", END, *b"c", END]).tobytes(),)


async def test_a_query_before_many_documents_is_tokenised_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []
    monkeypatch.setattr(
        asyncio, "to_thread", lambda work, *given: threads.append(work) or asyncio.sleep(0, work(*given))
    )
    await pack(asked(operation="rerank", query="q" * 99, texts=("c",) * 41), MODEL, Limits())
    assert len(threads) == 1
    await pack(asked(operation="rerank", query="q" * 99, texts=("c",) * 40), MODEL, Limits())
    assert len(threads) == 1


async def test_the_least_room_is_enough() -> None:
    request = asked(operation="rerank", query="q" * 445, texts=("c" * 80,))
    found = await pack(request, MODEL, Limits(), segments=True)
    assert [len(text) // 4 for text in found.texts] == [492, 492]


async def test_segments_are_bounded_for_each_text_and_for_all() -> None:
    with pytest.raises(ContextLengthExceeded, match=r"Text 1 has 1002 tokens, which are 3 segments; at most 2") as told:
        await pack(asked(texts=("a", "b" * 1000)), MODEL, Limits(max_segments=2), segments=True)
    assert told.value.param == "input"
    with pytest.raises(ContextLengthExceeded, match="1134 tokens together"):  # with what they share
        await pack(asked(texts=("b" * 1000,)), MODEL, Limits(max_texts_tokens=1100), segments=True)


async def test_too_many_segments_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("pileus.gateway.texts.cut", lambda ids, *_: made.append(len(ids)))
    request = asked(operation="rerank", query="q" * 445, texts=("c" * 2000,) * 20)
    with pytest.raises(ContextLengthExceeded, match="368640 tokens together; at most 300000") as refusal:
        await pack(request, MODEL, Limits(), segments=True)
    assert (refusal.value.param, made) == ("documents", [])


@given(st.integers(0, 440), st.lists(st.integers(0, 3000), min_size=1, max_size=4))
def test_what_is_counted_is_what_is_made(query: int, lengths: list[int]) -> None:
    request = asked(operation="rerank", query="q" * query, texts=tuple("c" * length for length in lengths))
    made = sum(len(text) // 4 for text in asyncio.run(pack(request, MODEL, Limits(), segments=True)).texts)
    asyncio.run(pack(request, MODEL, Limits(max_texts_tokens=made), segments=True))
    with pytest.raises(ContextLengthExceeded, match=f" {made} tokens together"):
        asyncio.run(pack(request, MODEL, Limits(max_texts_tokens=made - 1), segments=True))


def test_who_says_what_becomes_of_long_texts() -> None:
    assert not by_segments(asked(), "refuse")
    assert by_segments(asked(), "segments")
    assert by_segments(asked(long_texts="segments"), "refuse")
    assert not by_segments(asked(long_texts="refuse"), "segments")
    assert not by_segments(asked(truncate_to=-1), "segments")
    assert not by_segments(asked(operation="features"), "segments")


@pytest.mark.parametrize(("operation", "names_segments"), [("embeddings", True), ("features", False)])
async def test_the_refusal_names_the_ways_that_there_are(operation: str, names_segments: bool) -> None:
    with pytest.raises(ContextLengthExceeded, match="`truncate_prompt_tokens: -1` cuts such texts") as refusal:
        await pack(asked(operation=operation, texts=("b" * 600,)), MODEL, Limits())
    assert ('`long_texts: "segments"`' in refusal.value.message) is names_segments


@pytest.mark.parametrize("width", [2, 3000])  # merged at once, or in a thread
async def test_segments_are_answered_as_one_text_and_all_of_them_paid(width: int) -> None:
    house = House(EncodingReplica())
    work = EncodeWork(asked(), principal("t"), "d", TEXTS, (), EncodeOutput(dimensions=width), ((1, 3), (1,)))
    encoding = TextsEncoding(work, FAKE_ENCODING, house.scheduler, house.clock, 0.0)
    house.dispatcher.enqueue(encoding)
    values = tuple(packed([number] * width) for number in (1, 2, 4))
    encoding.on_encoded(Encoded(1, (0, 1, 2), values))
    encoding.on_finish(Finish(1, 0, FinishReason.STOP))
    assert [floats(each) for each in (await encoding.whole()).values] == [[1.75] * width, [4] * width]
    assert encoding.usage.prompt_tokens == 9
