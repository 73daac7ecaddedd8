"""A file of lines as it streams in, and one line of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.batch.lines import BadLine, check_line, decode_line
from pileus.files.lines import Line, LineSplitter
from unit.batch.bench import PATH, asks, line_of


def split(content: bytes, sizes: list[int], longest: int = 50) -> list[Line]:
    """Fed in pieces of these sizes, and the rest in one."""
    splitter, found = LineSplitter(longest), []
    for size in sizes:
        found += splitter.feed(content[:size])
        content = content[size:]
    return [*found, *splitter.feed(content), *splitter.finish()]


@given(
    lines=st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))),
    ends=st.sampled_from([b"\n", b"\r\n"]),
    last_ends=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    sizes=st.lists(st.integers(0, 40)),
)
def test_lines_are_the_same_however_the_file_is_cut(
    lines: list[bytes], ends: bytes, last_ends: bool, mark: bytes, sizes: list[int]
) -> None:
    content = mark + ends.join(lines) + (ends if last_ends else b"")
    body = content.removeprefix(b"\xef\xbb\xbf")
    mark_length = len(content) - len(body)
    found = split(content, sizes)
    expected = [
        (number, line if len(line) <= 50 else None)
        for number, line in enumerate(body.replace(b"\r\n", b"\n").split(b"\n"), 1)
        if line.strip() or len(line) > 54
    ]
    assert [(line.number, line.content) for line in found if line.content or line.length > 50] == expected
    for line in found:
        if line.content is not None:
            assert content[line.offset : line.offset + line.length] == line.content
            assert line.offset >= mark_length


def test_a_line_longer_than_allowed_is_told_by_its_number_and_holds_no_memory() -> None:
    splitter = LineSplitter(10)
    for _ in range(1000):
        assert not list(splitter.feed(b"x" * 1000))
        assert len(splitter._content) < 20
    (line, after) = splitter.feed(b"\n{}\n")
    assert (line.number, line.content, line.length) == (1, None, 1_000_000)
    assert (after.number, after.content) == (2, b"{}")


def test_a_line_as_it_should_be_gives_its_request() -> None:
    request = check_line(line_of(asks("é")[0]), PATH)
    assert (request.custom_id, bytes(request.body)) == ("é", b'{"text": "\\u00e9"}')


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"custom_id": ""}, "invalid_request", "custom_id"),
        ({"custom_id": "x" * 513}, "invalid_request", "custom_id"),
        ({"custom_id": 7}, "invalid_request", "custom_id"),
        ({"custom_id": None}, "invalid_request", "custom_id"),
        ({"method": "GET"}, "invalid_request", "method"),
        ({"url": "/v1/completions"}, "url_mismatch", "url"),
        ({"body": []}, "invalid_request", "body"),
        ({"extra": 1}, "invalid_request", "extra"),
    ],
)
def test_a_line_that_is_no_request_is_told_by_the_field(change: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(BadLine) as refused:
        check_line(line_of({**asks("a")[0], **change}), PATH)
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize("name", ["custom_id", "method", "url", "body"])
def test_no_field_may_be_missing(name: str) -> None:
    line = asks("a")[0]
    del line[name]
    with pytest.raises(BadLine) as refused:
        check_line(line_of(line), PATH)
    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", name)


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b"{",
        b"nothing",
        b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
        b'{"custom_id": "a", "custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"x": "\xff"}}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"x": NaN}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(BadLine) as refused:
        check_line(content, PATH)
    assert refused.value.code == "invalid_json_line"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    custom_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    body=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), json_values, max_size=4),
    plain=st.booleans(),
)
def test_what_passed_the_check_is_read_the_same_when_it_runs(custom_id: str, body: dict[str, Any], plain: bool) -> None:
    line = {"custom_id": custom_id, "method": "POST", "url": PATH, "body": body}
    content = json.dumps(line, ensure_ascii=plain).encode()
    check_line(content, PATH)
    request = decode_line(content)
    assert request.custom_id == custom_id
    assert json.loads(bytes(request.body)) == body
