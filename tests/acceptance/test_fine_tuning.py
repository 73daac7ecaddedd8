"""Fine-tuning through the official `openai` client, unchanged, on a tiny model that a real server serves."""

import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from acceptance.files_server import client_of, files_server
from acceptance.process import Server, pileus
from pileus.models.artefact import Kind, load_artefact
from tuned import EXAMPLES, HELD_OUT, install_tiny_base, jsonl, preference

PATIENCE_S = 120.0
CONFIG = """
[fine_tuning]
checkpoint_s = 0

[[deployment]]
name = "tiny"
model = "tiny"
aliases = ["default"]
options = { kv_bytes = 16_000_000, max_sequences = 4 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    install_tiny_base(data)
    with files_server(data, config=CONFIG) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as found:
        yield found


def stored(client: OpenAI, lines: list[dict[str, Any]] | bytes) -> str:
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    return client.files.create(file=("examples.jsonl", content), purpose="fine-tune").id


def until(client: OpenAI, job: FineTuningJob, *statuses: str) -> FineTuningJob:
    end = time.monotonic() + PATIENCE_S
    while job.status not in statuses:
        assert time.monotonic() < end, job
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    return job


def errors_of(client: OpenAI, job: FineTuningJob) -> list[str]:
    return [event.message for event in client.fine_tuning.jobs.list_events(job.id) if event.level == "error"]


def until_served(client: OpenAI, name: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while name not in {model.id for model in client.models.list()}:
        assert time.monotonic() < end
        time.sleep(0.05)


def said(client: OpenAI, model: str, question: str) -> str | None:
    messages: Any = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
    return answer.choices[0].message.content


def test_a_model_learns_from_upload_to_figures(client: OpenAI, server: Server) -> None:
    job = client.fine_tuning.jobs.create(
        model="default",
        training_file=stored(client, EXAMPLES),
        validation_file=stored(client, HELD_OUT),
        suffix="Count it",
        seed=7,
        metadata={"for": "a test"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
    )
    assert job.status == "validating_files"
    assert job.fine_tuned_model is None
    job = until(client, job, "succeeded", "failed")
    assert job.error is None
    assert (job.seed, job.metadata, job.model) == (7, {"for": "a test"}, "default")
    assert job.hyperparameters.to_dict() == {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0}
    assert job.trained_tokens
    name = job.fine_tuned_model
    assert name is not None
    assert name.startswith("tiny:count-it-")
    artefact = load_artefact(server.data / "models" / "artefacts" / name)
    assert artefact.manifest.kind == Kind.ADAPTER

    [result] = job.result_files
    assert client.files.retrieve(result).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(client.files.content(result).text)))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 13)]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert [bool(row["valid_loss"]) for row in rows] == [False] * 5 + [True] + [False] * 5 + [True]

    until_served(client, name)
    answers = {model: said(client, model, "What is 3?") for model in ("tiny", name)}
    assert answers["tiny"] != answers[name]

    kept = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [each.step_number for each in kept] == [12, 6]
    assert kept[0].fine_tuned_model_checkpoint == name
    assert kept[0].metrics.valid_loss == pytest.approx(float(rows[-1]["valid_loss"]), abs=1e-4)
    told = list(client.fine_tuning.jobs.list_events(job.id, limit=5))  # by pages
    assert len(told) == len({event.id for event in told})
    steps = [event.data for event in told if event.type == "metrics"]
    assert {data["step"] for data in steps if isinstance(data, dict)} == set(range(1, 13))
    assert told[-1].message == f"What is learnt is served as {name} once the job has succeeded."
    assert told[-2].message.startswith("files validated: 24 examples")
    assert {event.message for event in told} >= {f"gate: {each.fine_tuned_model_checkpoint} passes" for each in kept}


def test_a_model_that_is_worse_than_its_base_is_refused_and_not_served(client: OpenAI, server: Server) -> None:
    """It learns the contrary of what is held out."""
    learnt = [preference(f"Is {number} even?", "yes", "no") for number in range(16)]
    held_out = [preference(f"Is {number} even?", "no", "yes") for number in range(20, 28)]
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=stored(client, learnt),
        validation_file=stored(client, held_out),
        method={
            "type": "dpo",
            "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 20.0}},
        },
    )
    job = until(client, job, "succeeded", "failed")
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error is not None
    assert job.error.code == "refused_by_gate"
    assert "its loss on 8 held-out items" in job.error.message
    assert len(job.result_files) == 1
    name = f"tiny:ft-{job.id.partition('-')[2][:8]}"
    assert (server.data / "models" / "artefacts" / name).is_dir()
    headers = {"authorization": f"Bearer {server.admin_key}"}
    verdicts = httpx.get(f"{server.base_url}/admin/v1/verdicts", headers=headers).json()["data"]
    [verdict] = [each for each in verdicts if each["verdict"]["result"]["candidate"] == name]
    assert verdict["genuine"]
    assert [each["check"] for each in verdict["verdict"]["result"]["findings"]] == [
        "manifest",
        "weights",
        "engine",
        "loss",
    ]
    assert name not in {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError):
        said(client, name, "What is 3?")


def test_bad_data_is_told_by_line_before_anything_runs(client: OpenAI) -> None:
    lines = jsonl(EXAMPLES).splitlines(keepends=True)
    lines[2] = b'{"messages": [{"role": "user", "content": "hi"}\n'
    lines[4] = lines[4].replace(b'"assistant"', b'"robot"')
    job = client.fine_tuning.jobs.create(model="tiny", training_file=stored(client, b"".join(lines)))
    job = until(client, job, "succeeded", "failed")
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 3" in job.error.message
    assert "line 5" in job.error.message
    end = time.monotonic() + PATIENCE_S
    while not any("line 5: `messages[1].role` is 'robot'" in message for message in errors_of(client, job)):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert job.result_files == []


def test_a_job_pauses_goes_on_and_is_cancelled(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=stored(client, EXAMPLES),
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 1}}},
    )
    until(client, job, "running")
    end = time.monotonic() + PATIENCE_S
    while not list(client.fine_tuning.jobs.checkpoints.list(job.id)):
        assert time.monotonic() < end
        time.sleep(0.05)
    client.fine_tuning.jobs.pause(job.id)
    until(client, job, "paused")
    client.fine_tuning.jobs.resume(job.id)
    until(client, job, "running")
    client.fine_tuning.jobs.cancel(job.id)
    job = until(client, job, "cancelled")
    assert job.fine_tuned_model is None
    assert job.trained_tokens
    [*_, oldest] = client.fine_tuning.jobs.checkpoints.list(job.id)
    until_served(client, oldest.fine_tuned_model_checkpoint)
    assert len(job.result_files) == 1
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


def test_what_cannot_be_is_refused_by_name(client: OpenAI) -> None:
    file = stored(client, EXAMPLES)
    with pytest.raises(openai.NotFoundError, match="gpt-4o"):
        client.fine_tuning.jobs.create(model="gpt-4o", training_file=file)
    with pytest.raises(openai.BadRequestError, match="no file"):
        client.fine_tuning.jobs.create(model="tiny", training_file="file-nothing")
    with pytest.raises(openai.BadRequestError, match="warmth"):
        client.fine_tuning.jobs.create(model="tiny", training_file=file, extra_body={"warmth": 1})
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"warmth": 1}}}
    with pytest.raises(openai.BadRequestError, match=r"method\.supervised\.hyperparameters\.warmth"):
        client.fine_tuning.jobs.create(model="tiny", training_file=file, method=method)


@pytest.mark.slow
def test_what_learnt_before_anything_served_its_base_is_served_as_its_first_event_says(tmp_path: Path) -> None:
    install_tiny_base(tmp_path)
    with files_server(tmp_path) as server, client_of(server) as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=stored(client, EXAMPLES), seed=7)
        [*_, first] = client.fine_tuning.jobs.list_events(job.id)
        deploy, add = re.findall(r"`pileus ([^`]+)`", first.message)
        job = until(client, job, "succeeded", "failed")
        assert job.error is None
        assert job.fine_tuned_model not in {model.id for model in client.models.list()}
        access = {"PILEUS_API_KEY": server.admin_key, "PILEUS_URL": server.base_url}
        for command in (f"{deploy} -o kv_bytes=16000000 -o max_sequences=4", add):
            done = pileus(*command.replace("NAME", "later").split(), **access)
            assert done.returncode == 0, done.stderr
        [name] = [model.id for model in client.models.list() if model.id.startswith("later:")]
        assert said(client, name, "What is 3?") != said(client, "later", "What is 3?")
