"""Public names over two gateway processes: shares, canaries that become whole or are rolled back; evaluations through
the pipeline. On the fake engine; and the gate as people meet it, with a model that is trained here."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from acceptance.process import Server, pileus, running_server

CONFIG = """
[server]
gateways = 2

[[deployment]]
name = "stable"
model = "fake"
engine = "fake"
options = { text = "Paris" }

[[deployment]]
name = "better"
model = "fake"
engine = "fake"
options = { text = "Paris, France" }

[[deployment]]
name = "broken"
model = "fake"
engine = "fake"
options = { faults = [{ kind = "refuse", prompt_token = 63 }] }
"""  # 63 is a question mark


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("promotion")
    (data / "pileus.toml").write_text(CONFIG)
    with running_server(data, "--config", str(data / "pileus.toml")) as server:
        yield server


def command(server: Server, *arguments: str) -> str:
    done = pileus(*arguments, PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(server: Server, question: str, model: str = "chat") -> tuple[int, str]:
    """By a connection of its own, so that both gateways get some."""
    body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": question}]}
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    answer = httpx.post(f"{server.base_url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    return answer.status_code, answer.json()["choices"][0]["message"]["content"] if answer.is_success else ""


def traffic(server: Server) -> dict[str, Any]:
    [found] = json.loads(command(server, "traffic", "--json"))
    return dict(found["traffic"])


def used(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command(server, "usage").splitlines()]


def test_a_model_is_evaluated_through_the_service(server: Server, tmp_path: Path) -> None:
    questions = tmp_path / "capitals.jsonl"
    lines = [
        {"prompt": f"What is the capital of {where}?", "reference": "Paris"} for where in ("France", "Île", "Gaul")
    ]
    questions.write_text("\n".join(map(json.dumps, [*lines, {"prompt": "2 + 2?", "reference": "4"}])))
    arguments = ("--tasks", str(questions), "--metric", "exact_match", "--metric", "f1", "--output", str(tmp_path))
    found = json.loads(command(server, "eval", "stable", "--against", "better", *arguments, "--json"))
    assert [score["score"]["value"] for score in found["of"]["scores"]] == [0.75, 0.75]
    assert found["compared"][0]["difference"]["value"] == 0.75
    assert "stable less better" in (tmp_path / "evaluation-stable.md").read_text()
    deadline = monotonic() + 60
    while len(rows := used(server)) < 8:  # it is written down a second or two later
        assert monotonic() < deadline, rows
    assert Counter((row["deployment"], row["lane"]) for row in rows) == {("stable", "batch"): 4, ("better", "batch"): 4}


def test_a_name_is_shared_out_and_taken_back(server: Server) -> None:
    command(server, "promote", "chat", "--to", "stable")  # nothing is served there
    refused = pileus("promote", "chat", "--to", "better", PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
    assert refused.returncode == 1
    assert "not installed as an artefact that the gate could have judged" in refused.stderr
    command(server, "promote", "chat", "--to", "better", "--force", "--canary", "40%", "--watch", "1h")
    questions = [f"question {number}" for number in range(60)]
    said = [ask(server, question) for question in questions]
    assert Counter(said).keys() == {(200, "Paris"), (200, "Paris, France")}
    assert 10 <= Counter(said)[200, "Paris, France"] <= 38
    assert [ask(server, question) for question in questions] == said  # each stays where it is
    command(server, "rollback", "chat")
    assert {ask(server, question) for question in questions[:20]} == {(200, "Paris")}


def test_a_good_canary_becomes_whole(server: Server) -> None:
    command(server, "promote", "chat", "--to", "better", "--force", "--canary", "50%", "--watch", "1s")
    for number in range(2000):
        ask(server, f"next {number}")
        if number % 20 == 0 and traffic(server)["canary"] is None:
            break
    assert traffic(server)["arms"] == [{"deployment": "better", "weight": 1.0}]


def test_a_canary_that_fails_is_rolled_back_by_itself(server: Server) -> None:
    before = traffic(server)["arms"]
    command(server, "promote", "chat", "--to", "broken", "--force", "--canary", "30%", "--watch", "1h")
    for number in range(2000):
        ask(server, f"and {number}?")
        if number % 20 == 0 and traffic(server)["canary"] is None:
            break
    found = traffic(server)
    assert found["arms"] == before
    assert "requests failed, of the stable deployment's 0 of" in found["said"]
    outcomes = [each["outcome"] for each in json.loads(command(server, "audit", "--json"))]
    assert found["said"] in outcomes
    assert ask(server, "still there?")[0] == 200


@pytest.mark.slow
def test_planted_bad_checkpoints_are_refused_and_a_good_one_is_promoted(tmp_path: Path) -> None:
    from planted_models import change_matrix, copy, install, train

    train(tmp_path / "trained")
    parent = install(tmp_path / "trained", tmp_path / "models", "parent")
    copy(parent, "good")

    def plant(values: Any) -> None:
        values[:5] = float("nan")

    change_matrix(copy(parent, "bad"), 9, plant)
    (tmp_path / "pileus.toml").write_text(
        "".join(f'[[deployment]]\nname = "{n}"\nmodel = "{n}"\n' for n in ("parent",))
    )
    with running_server(tmp_path, "--config", str(tmp_path / "pileus.toml")) as server:
        run = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
        bad = pileus("gate", "bad", "--parent", "parent", **run)
        assert bad.returncode == 1
        assert "| weights | **refused** | not finite" in bad.stdout
        questions = tmp_path / "questions.jsonl"
        questions.write_text('{"prompt": "A cloud begins with", "reference": " warm air"}\n')
        good = pileus("gate", "good", "--parent", "parent", "--tasks", str(questions), "--raw", **run)
        assert good.returncode == 0, good.stdout + good.stderr
        assert "passes" in good.stdout
        command(server, "deploy", "next", "good")
        command(server, "promote", "chat", "--to", "parent")
        command(server, "promote", "chat", "--to", "next")
        refused = pileus("promote", "chat", "--to", "parent", **run)
        assert "has not judged parent as it is now: run `pileus gate parent --parent good`" in refused.stderr
        assert json.loads(command(server, "gate", "parent", "--parent", "good", "--margin", "0.5", "--json"))["passed"]
        refused = pileus("promote", "chat", "--to", "parent", **run)
        assert "the gate passed parent with a margin of 0.5 for perplexity" in refused.stderr
        [advised] = re.findall("run `pileus ([^`]+)`", refused.stderr)
        command(server, *advised.split())
        command(server, "promote", "chat", "--to", "parent")
