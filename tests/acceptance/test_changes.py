"""Deployments that come, sleep, wake and go on a running server: the command and the official client, fake engine."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from acceptance.process import Server, pileus, running_server
from pileus.store.sqlite import DATABASE_FILE

FIRST = '[[deployment]]\nname = "first"\nmodel = "fake"\nengine = "fake"\n'
SLEEPER = '[[deployment]]\nname = "sleeper"\nmodel = "fake"\nengine = "fake"\nreplicas = 0\nidle_s = 2\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pileus.toml"
    path.write_text(FIRST + SLEEPER)
    return path


@pytest.fixture
def server(tmp_path: Path, config: Path) -> Iterator[Server]:
    with running_server(tmp_path, "--config", str(config)) as server:
        yield server


def client(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0)


def say(openai_client: OpenAI, model: str) -> str:
    answer = openai_client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=8, seed=1
    )
    return answer.choices[0].message.content or ""


def run(server: Server, *arguments: str, key: str = "") -> str:
    ran = pileus(*arguments, PILEUS_URL=server.base_url, PILEUS_API_KEY=key or server.admin_key)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_sleeping_deployment_answers_the_official_client_without_an_error(server: Server) -> None:
    def show() -> dict[str, Any]:
        replicas = json.loads(run(server, "ps", "--json"))
        return {each["deployment"]: each["state"] for each in replicas}

    assert show() == {"first": "ready"}
    with client(server) as stock:
        whole = say(stock, "sleeper")
        assert whole
        stream = stock.chat.completions.create(
            model="sleeper", messages=[{"role": "user", "content": "hi"}], max_tokens=8, seed=1, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole
        # It sleeps again after two seconds without a request, and is woken by a stream.
        assert any("sleeper" not in show() for _ in range(100))
        stream = stock.chat.completions.create(
            model="sleeper", messages=[{"role": "user", "content": "hi"}], max_tokens=8, seed=1, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def test_a_deployment_is_made_changed_and_taken_away_by_the_command(server: Server) -> None:
    with client(server) as stock:
        with pytest.raises(openai.NotFoundError):
            say(stock, "new")
        assert run(server, "deploy", "new", "fake", "--engine", "fake", "--alias", "fresh") == (
            "new serves fake with 1 of 1 replicas.\n"
        )
        assert say(stock, "fresh") == say(stock, "first")
        assert run(server, "scale", "new", "2") == "new has 2 of 2 replicas.\n"
        assert run(server, "restart", "new") == "new has new replicas: 2 of 2.\n"
        logs = json.loads(run(server, "logs", "new", "--json"))
        assert [each["replica"] for each in logs] == ["new/2", "new/3"]
        assert run(server, "undeploy", "new", "--yes") == "new is undeployed.\n"
        with pytest.raises(openai.NotFoundError):
            say(stock, "fresh")
    failed = pileus("scale", "new", "2", PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
    assert failed.returncode == 1
    assert failed.stderr == "pileus: there is no deployment 'new'; there is: first, sleeper\n"


def test_what_was_deployed_is_there_after_a_restart_of_the_server_and_the_settings_win(
    tmp_path: Path, config: Path
) -> None:
    with running_server(tmp_path, "--config", str(config)) as server:
        key = server.admin_key
        run(server, "deploy", "new", "fake", "--engine", "fake", "--alias", "fresh")
        run(server, "deploy", "other", "fake", "--engine", "fake")
    config.write_text(FIRST + SLEEPER + FIRST.replace("first", "other") + 'aliases = ["o"]\n')
    with running_server(tmp_path, "--config", str(config)) as server:
        shown = json.loads(run(server, "status", "--json", key=key))["deployments"]
        assert {each["name"]: each["aliases"] for each in shown} == {
            "first": [],
            "sleeper": [],
            "other": ["o"],
            "new": ["fresh"],
        }
        assert "stored_deployment_overruled" in (tmp_path / "server.log").read_text()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as store:
        acts = store.execute("SELECT action, target FROM audit WHERE action LIKE 'deployment.%' ORDER BY sequence")
        assert acts.fetchall() == [("deployment.deploy", "new"), ("deployment.deploy", "other")]
