"""The command against a real server, and against a data folder that no server owns."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from threading import Timer

import openai
import pytest
from openai import OpenAI

from acceptance.process import Server, environment, pileus, running_server

EXACT = "smollm2-exact"  # the deployment of these tests that gives the same text each time

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def client(server: Server) -> Command:
    """The command with the server's address and the admin's key."""

    def run(*arguments: str, stdin: str = "") -> CompletedProcess[str]:
        ran = pileus(*arguments, stdin=stdin, PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
        assert ran.returncode == 0, ran.stderr
        return ran

    return run


def test_status_and_ps_show_the_replicas(client: Command, server: Server) -> None:
    assert "smollm2-135m, default" in client("status").stdout
    replicas = json.loads(client("ps", "--json").stdout)
    assert {replica["state"] for replica in replicas} == {"ready"}
    assert {replica["pid"] for replica in replicas} == set(server.replicas())


def test_chat_streams_an_answer_with_its_figures(client: Command) -> None:
    question = ["What is the capital of France?", "--model", EXACT, "--temperature", "0", "--max-tokens", "20"]
    ran = client("chat", *question, "--stats")
    assert "Paris" in ran.stdout
    assert "tokens/s" in ran.stderr
    whole = json.loads(client("chat", *question, "--json").stdout)
    assert "Paris" in whole["choices"][0]["message"]["content"]


def read_until(terminal: int, mark: str) -> str:
    """What the command shows up to the mark."""
    shown = ""
    while mark not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


def test_ctrl_c_in_a_conversation_ends_the_answer_only(tmp_path: Path) -> None:
    # What is not interrupted takes minutes, for which nobody waits here.
    slow_engine = '[{name="slow", model="fake", engine="fake", options={step_s=0.2}}]'
    with running_server(tmp_path, PILEUS_DEPLOYMENT=slow_engine) as server:
        terminal, inside = os.openpty()
        chat = subprocess.Popen(
            [sys.executable, "-m", "pileus", "chat"],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment(PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key),
        )
        os.close(inside)
        watchdog = Timer(60, chat.kill)
        watchdog.start()
        read_until(terminal, "> ")
        os.write(terminal, b"Talk for a long time.\n")
        read_until(terminal, "time.\r\n")
        assert read_until(terminal, " ")
        chat.send_signal(signal.SIGINT)
        read_until(terminal, "> ")
        os.write(terminal, b"/quit\n")
        assert chat.wait() == 0
        watchdog.cancel()
        os.close(terminal)


def test_a_key_works_until_it_is_revoked(client: Command, server: Server) -> None:
    secret = client("keys", "create", "passer-by").stdout.strip()
    [key] = [key for key in json.loads(client("keys", "list", "--json").stdout) if key["name"] == "passer-by"]
    assert secret not in client("keys", "list", "--json").stdout
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=secret, max_retries=0) as visitor:
        assert visitor.models.list().data
        client("keys", "revoke", key["id"], "--yes")
        with pytest.raises(openai.AuthenticationError):
            visitor.models.list()


def test_a_user_may_not_see_the_status(client: Command, server: Server) -> None:
    secret = client("keys", "create", "visitor").stdout.strip()
    ran = pileus("status", PILEUS_URL=server.base_url, PILEUS_API_KEY=secret)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "status.read" in ran.stderr


def test_the_folder_of_a_running_server_is_left_alone(server: Server) -> None:
    ran = pileus("keys", "list", "--data", str(server.data))
    assert ran.returncode == 1
    assert str(server.process.pid) in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_lost_admin_key_is_replaced_while_the_server_is_stopped(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    secret = pileus("keys", "create", "me", "--role", "admin", *data).stdout.strip()
    assert secret.startswith("sk-pileus-")
    [key] = json.loads(pileus("keys", "list", "--json", *data).stdout)
    assert (key["name"], key["role"]) == ("me", "admin")
    assert pileus("keys", "revoke", key["id"], "--yes", *data).returncode == 0
    assert "revoked" in pileus("keys", "list", *data).stdout


def test_models_are_listed_and_shown(client: Command, server: Server) -> None:
    data = ("--data", str(server.data))
    entries = {entry["name"]: entry for entry in json.loads(client("models", "list", "--json", *data).stdout)}
    assert entries["smollm2-135m-instruct"]["installed"]
    assert "Apache-2.0" in client("models", "show", "smollm2-135m-instruct", *data).stdout


def test_an_unknown_model_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    ran = pileus("models", "pull", "smolm2-135m-instruct", "--data", str(tmp_path))
    assert ran.returncode == 1
    assert "did you mean smollm2-135m-instruct" in ran.stderr


def test_the_default_configuration_is_valid(tmp_path: Path) -> None:
    ran = pileus("config", "check", "--json", "--data", str(tmp_path))
    assert json.loads(ran.stdout) == {"valid": True, "deployments": ["smollm2-135m"]}
