"""Readers of traces, on traces that are made up here; the real ones only where they are."""

from pathlib import Path

import msgspec
import pytest

from pileus.core.records import Lane, UsageRecord
from pileus.simulation.traces import BadTrace, TraceFormat, TraceRequest, load, read

SHARED = Path(__file__).parents[4] / "shared" / "data" / "traces"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
MOONCAKE = """{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 2500, "input_length": 600, "output_length": 0, "hash_ids": [0, 3]}
"""


def usage(at: float, total_s: float, prompt_tokens: int = 10) -> UsageRecord:
    return UsageRecord(
        request_id="r",
        key_id="k",
        tenant="bob",
        deployment="d",
        lane=Lane.BATCH,
        outcome="stop",
        at=at,
        prompt_tokens=prompt_tokens,
        completion_tokens=7,
        total_s=total_s,
    )


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "trace"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_azure_lines_become_requests_in_seconds(tmp_path: Path) -> None:
    first, second = read(written(tmp_path, AZURE))
    assert (first.prompt_tokens, first.answer_tokens) == (374, 44)
    assert second.at - first.at == pytest.approx(4.314579)


def test_windows_line_ends_and_time_zones_are_understood(tmp_path: Path) -> None:
    text = AZURE.replace("\n", "\r\n").replace("6805900,", "680590+00:00,")
    first, second = read(written(tmp_path, text))
    assert second.at - first.at == pytest.approx(4.314579)


def test_mooncake_lines_keep_the_names_of_their_blocks(tmp_path: Path) -> None:
    assert list(read(written(tmp_path, MOONCAKE))) == [
        TraceRequest(0.0, 1100, 5, (0, 1, 2)),
        TraceRequest(2.5, 600, 1, (0, 3)),  # an answer takes a step, however short it is
    ]


def test_usage_is_placed_where_it_began_and_keeps_tenant_and_lane(tmp_path: Path) -> None:
    records = [usage(100.0, 1.0), usage(101.0, 50.0)]
    requests = load(written(tmp_path, b"\n".join(map(msgspec.json.encode, records))))
    assert [request.at for request in requests] == [51.0, 99.0]
    assert (requests[0].tenant, requests[0].lane) == ("bob", Lane.BATCH)


def test_usage_of_nothing_is_left_out(tmp_path: Path) -> None:
    records = [usage(1.0, 0.0, prompt_tokens=0), usage(2.0, 0.0)]
    assert len(load(written(tmp_path, b"\n".join(map(msgspec.json.encode, records))))) == 1


def test_the_format_can_be_given_where_the_first_line_does_not_tell_it(tmp_path: Path) -> None:
    file = written(tmp_path, '{"timestamp": 0, "input_length": 3, "output_length": 5}\n')
    with pytest.raises(BadTrace, match="line 1: neither"):
        load(file)
    assert load(file, TraceFormat.MOONCAKE) == [TraceRequest(0.0, 3, 5)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (AZURE + "2023-11-16 18:15:51,1,2,3\n", "line 4: 4 fields"),
        (AZURE + "yesterday,1,2\n", "line 4"),
        (AZURE + "2023-11-16 18:15:51,0,2\n", "line 4: a prompt of 0 tokens"),
        (AZURE + "2023-11-16 18:15:51,1,-2\n", "line 4: an answer of -2 tokens"),
        (AZURE.replace("374", "many"), "line 2"),
        (MOONCAKE + "\n{}\n", "line 4"),
        (MOONCAKE + '{"timestamp": 0, "input_length": "x"}', "line 3"),
        (MOONCAKE + "{", "line 3"),
        ("a,b\n1,2\n", "line 1"),
        (AZURE.splitlines()[0], "no requests"),
        ("", "line 1"),
    ],
)
def test_what_is_no_request_is_refused_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(BadTrace, match=line):
        load(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="line 4"):
        load(written(tmp_path, AZURE.encode() + b"\xff\xfe,1,2\n"))


def test_a_mooncake_file_is_no_azure_trace(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="line 1: an Azure trace begins with"):
        load(written(tmp_path, MOONCAKE), TraceFormat.AZURE)


@pytest.mark.parametrize(
    ("name", "count", "blocks"),
    [("azure_llm_2023_conv.csv", 19_366, False), ("mooncake_conversation_trace.jsonl", 12_031, True)],
)
def test_the_published_traces_are_read_whole(name: str, count: int, blocks: bool) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not here")
    requests = load(SHARED / name)
    assert len(requests) == count
    assert any(request.blocks for request in requests) == blocks
    assert 3400 < requests[-1].at - requests[0].at < 3600
