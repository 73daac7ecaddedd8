"""Attacks 13 to 16, 18, 23, 25 and 29: what a body may not hold."""

import base64
import gzip
import json
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest

from attacks.target import MIB, Target

ASK = b'{"model": "fast", "messages": [{"role": "user", "content": "hi"}], %s}'


@pytest.mark.parametrize(
    "wish", [{"n": 10**9}, {"logprobs": True, "top_logprobs": 10**6}, {"best_of": 10**9}, {"n": 17}]
)
def test_13_enormous_counts_are_refused_at_once(target: Target, wish: dict[str, Any]) -> None:
    before, began = target.rss_bytes(), time.monotonic()
    response = target.ask(**wish)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == list(wish)[-1]
    assert time.monotonic() - began < 1.0
    assert target.rss_bytes() - before < 5 * MIB


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
@pytest.mark.parametrize("field", [b"temperature", b"top_p", b"presence_penalty", b"min_p", b"repetition_penalty"])
def test_14_numbers_that_are_none_are_refused(target: Target, field: bytes, number: bytes) -> None:
    assert target.post(ASK % (b'"%s": %s' % (field, number))).status_code == 400


@pytest.mark.parametrize("count", [-1, 0, 2**63, 2**64, 10**4000, "10", True, 1.0, [1], {}])
def test_15_a_count_is_a_whole_number_in_range(target: Target, count: object) -> None:
    response = target.ask(max_tokens=count)
    assert response.status_code == 400
    assert "max_tokens" in response.json()["error"]["message"]


def test_16_a_gibibyte_is_refused_at_its_announcement(target: Target) -> None:
    answer = target.raw(target.head(f"content-length: {1024 * MIB}"))
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"


def test_16_a_gibibyte_in_chunks_is_refused_at_the_cap(target: Target) -> None:
    def chunks() -> Iterator[bytes]:
        chunk = b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
        for _ in range(1024):
            yield chunk

    target.ask()
    before = target.rss_bytes()
    answer = target.raw(target.head("transfer-encoding: chunked"), chunks())
    assert answer.status == 413
    assert target.rss_bytes() - before < 10 * MIB


def test_16_a_compression_bomb_is_not_unpacked(target: Target) -> None:
    bomb = gzip.compress(b" " * (64 * MIB))
    before = target.rss_bytes()
    answer = target.raw(target.head("content-encoding: gzip", f"content-length: {len(bomb)}"), bomb)
    assert answer.status == 415
    assert target.rss_bytes() - before < 10 * MIB


@pytest.mark.parametrize(
    "field",
    [
        b'"stop": ' + b"[" * 100_000 + b"]" * 100_000,
        b'"stop": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"model": "slow"',
        b'"temperature": 0, "temperature": 1',
        b'"stop": "\\ud800"',
        b'"stop": "\\udc00\\ud800"',
        b'"stop": "\xed\xa0\x80"',
        b'"stop": "\\u0000"',
        b'"stop": "\x00"',
        b'"seed": ' + b"1" * 1_000_000,
    ],
    ids=[
        "lists",
        "objects",
        "model twice",
        "temperature twice",
        "surrogate",
        "swapped",
        "raw",
        "NUL",
        "raw NUL",
        "digits",
    ],
)
def test_18_json_that_two_parsers_could_read_differently_is_refused(target: Target, field: bytes) -> None:
    assert target.post(ASK % field).status_code == 400


@pytest.mark.parametrize("field", ["chat_template", "chat_template_kwargs", "template", "add_generation_prompt"])
def test_23_a_template_from_the_client_is_refused(target: Target, field: str) -> None:
    response = target.ask(**{field: "{{ ''.__class__.__mro__ }}"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


def test_25_embeddings_and_pickles_are_never_read(target: Target) -> None:
    pickled = base64.b64encode(pickle.dumps({"a": 1})).decode()
    for field in ("prompt_embeds", "prompt_embeddings", "input_embeds"):
        assert target.ask(**{field: pickled}).status_code == 400
    with target.http() as client:
        for prompt in ({"data": pickled}, [0.5, 0.25], [[0.5]], None):
            response = client.post("/v1/completions", json={"model": "fast", "prompt": prompt})
            assert response.status_code == 400
    answer = target.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/python-pickle\r\n"
        b"authorization: Bearer " + target.user.encode() + b"\r\ncontent-length: 4\r\n\r\ngASV"
    )
    assert answer.status == 415


@pytest.mark.parametrize("field", ["base_url", "api_base", "api_key", "provider", "extra_headers"])
def test_29_a_provider_from_the_client_is_refused(target: Target, field: str) -> None:
    assert target.ask(**{field: "http://169.254.169.254/"}).status_code == 400


@pytest.mark.parametrize(
    "model", ["../../etc", "/etc/passwd", "file:///etc/passwd", "fast/../slow", "%2e%2e", "fast\n"]
)
def test_29_a_model_is_a_name_and_not_a_path(target: Target, model: str) -> None:
    assert target.ask(model=model).status_code == 404


def test_29_a_path_with_dots_is_not_resolved(target: Target) -> None:
    for path in ("/v1/models/fast/../slow", "/v1/models/%2e%2e/slow", "/v1/models/..%2f..%2fetc%2fpasswd"):
        assert target.raw(target.head(request=f"GET {path} HTTP/1.1")).status == 404


TWENTY: list[tuple[int, bytes]] = [
    (400, b""),
    (400, b"{"),
    (400, b"not json"),
    (400, b"[]"),
    (400, b"null"),
    (400, b'{"model": "fast"}'),
    (404, b'{"model": "none", "messages": [{"role": "user", "content": "hi"}]}'),
    (400, b'{"model": 5, "messages": [{"role": "user", "content": "hi"}]}'),
    (400, b'{"model": "fast", "messages": []}'),
    (400, b'{"model": "fast", "messages": "hi"}'),
    (400, b'{"model": "fast", "messages": [{"role": "wizard", "content": "hi"}]}'),
    (400, b'{"model": "fast", "messages": [{"role": "user", "content": null}]}'),
    (400, ASK % b'"temperature": NaN'),
    (400, ASK % b'"temperature": -1'),
    (400, ASK % b'"max_tokens": -5'),
    (400, ASK % b'"max_tokens": 1e3'),
    (400, ASK % b'"max_tokens": 99999999999999999999'),
    (400, ASK % b'"colour": "blue"'),
    (400, ASK % b'"max_tokens": 100000'),
    (400, b'{"model": "fast", "messages": [{"role": "user", "content": "%s"}]}' % (b"cloud " * 100_000)),
    (413, b" " * (4 * MIB + 1)),
]


def test_twenty_bad_inputs_get_the_right_answer_and_the_next_request_works(target: Target) -> None:
    for status, body in TWENTY:
        response = target.post(body)
        assert response.status_code == status, body[:80]
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert target.ask().status_code == 200


def test_too_long_a_prompt_is_told_with_both_numbers(target: Target) -> None:
    error = target.ask(messages=[{"role": "user", "content": "cloud " * 20_000}]).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "8192 tokens" in error["message"]
    assert json.dumps(error["message"]).count("tokens") >= 2
