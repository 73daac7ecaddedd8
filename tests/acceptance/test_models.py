"""A model's versions from an import to a deployment and on to another machine: a real server that demands signatures,
the real engine, and the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.process import Server, pileus, running_server
from made_models import write_tiny_gguf
from pileus.models.artefact import verify
from pileus.testing.adapters import random_tensors, write_adapter

CONFIG = """
[models]
require_signature = true

[[deployment]]
name = "first"
model = "fake"
engine = "fake"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("models")
    (data / "pileus.toml").write_text(CONFIG)
    with running_server(data, "--config", str(data / "pileus.toml")) as server:
        yield server


def command(server: Server, *arguments: str) -> Any:
    """A command that is asked of the server, as JSON."""
    variables = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
    done = pileus("models", *arguments, "--data", str(server.data), "--json", **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_goes_from_an_import_by_its_signature_to_a_deployment_and_to_another_machine(
    server: Server, tmp_path: Path
) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    command(server, "import", str(tmp_path / "tiny.gguf"), "mine", "--licence", "MIT")
    command(server, "import", str(tmp_path / "tiny.gguf"), "mine-2", "--version-of", "mine")
    [model] = command(server, "versions", "mine")
    assert [(each["number"], each["artefact"]) for each in model["versions"]] == [(2, "mine-2"), (1, "mine")]
    found = command(server, "diff", "mine@1", "2")
    assert (found["same"], found["files"], found["licence"]) == (True, [], ["MIT", ""])

    deploying = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
    refused = pileus("deploy", "tiny", "mine", **deploying)
    assert refused.returncode == 1
    assert "mine is not signed, and models.require_signature asks for it" in refused.stderr
    command(server, "tag", "mine@1", "--stage", "production", "--alias", "production", "--intended-use", "Tests.")
    signed = command(server, "sign", "mine@production")
    assert signed["trusted"]
    done = pileus("deploy", "tiny", "mine", **deploying)
    assert done.returncode == 0, done.stderr
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    question = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    answer = httpx.post(f"{server.base_url}/v1/chat/completions", json=question, headers=headers, timeout=60)
    assert answer.json()["usage"]["completion_tokens"] > 0
    _add_adapter(server, tmp_path)
    graph = command(server, "lineage", "mine@1")
    assert [node["label"] for node in graph["nodes"] if node["kind"] == "deployment"] == ["tiny"]
    page = pileus("models", "card", "mine@production", **deploying)
    assert "## Intended use\n\nTests." in page.stdout

    mirror, elsewhere = tmp_path / "mirror", tmp_path / "elsewhere"
    command(server, "push", "mine@1", str(mirror))
    assert pileus("models", "pull", "mine@1", "--from", str(mirror), "--data", str(elsewhere)).returncode == 0
    pulled, original = elsewhere / "models/artefacts/mine", server.data / "models/artefacts/mine"
    assert verify(pulled).licence == "MIT"
    assert (pulled / "signature.json").read_bytes() == (original / "signature.json").read_bytes()
    theirs = pileus("models", "card", "mine", "--data", str(elsewhere), "--json")
    said = json.loads(theirs.stdout)
    assert (said["signed_by"], said["trusted"]) == (signed["signed_by"], False)
    trusting = json.dumps([signed["signed_by"]])
    said = json.loads(
        pileus(
            "models", "card", "mine", "--data", str(elsewhere), "--json", PILEUS_MODELS__TRUSTED_KEYS=trusting
        ).stdout
    )
    assert said["trusted"]


def test_pulls_and_imports_are_jobs_of_the_server_which_tell_what_stands_against_them(
    server: Server, tmp_path: Path
) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    variables = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
    done = pileus("models", "import", str(tmp_path / "tiny.gguf"), "here", "--json", **variables)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kind"], told["state"]) == ("import", "succeeded")
    assert told["lines"][-1].startswith("here is installed in ")
    command(server, "push", "here@1", str(tmp_path / "mirror"))
    done = pileus("models", "pull", "here@1", "--from", str(tmp_path / "mirror"), **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("here is installed in ")
    for arguments, reason in (
        (("import", str(tmp_path / "absent"), "absent"), "absent does not exist"),
        (("import", str(tmp_path / "tiny.gguf"), "here"), "here is installed already"),
        (("pull", "here@7", "--from", str(tmp_path / "mirror")), "cannot pull here@7"),
    ):
        done = pileus("models", *arguments, **variables)
        assert done.returncode == 1
        assert reason in done.stderr
    alone = pileus(
        "models", "import", str(tmp_path / "tiny.gguf"), "b", "--alone", "--data", str(tmp_path / "d"), **variables
    )
    assert alone.returncode == 0, alone.stderr
    assert (tmp_path / "d/models/artefacts/b").is_dir()


def _add_adapter(server: Server, tmp_path: Path) -> None:
    """One that replicas load later needs a signature as their model does."""
    sizes = {"q_proj": (32, 32)}
    folder = write_adapter(tmp_path / "peft", random_tensors(1, 4, list(sizes), 1, sizes), 4)
    imported = pileus("adapters", "import", str(folder), "tone", "--base", "mine", "--data", str(server.data))
    assert imported.returncode == 0, imported.stderr
    variables = {"PILEUS_URL": server.base_url, "PILEUS_API_KEY": server.admin_key}
    refused = pileus("adapters", "add", "tiny", "tone", "tone", **variables)
    assert refused.returncode == 1
    assert "tone is not signed, and models.require_signature asks for it" in refused.stderr
    command(server, "sign", "tone")
    done = pileus("adapters", "add", "tiny", "tone", "tone", **variables)
    assert done.returncode == 0, done.stderr


def test_what_is_changed_is_in_the_audit_and_a_user_changes_nothing(server: Server, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    command(server, "import", str(tmp_path / "tiny.gguf"), "other")
    command(server, "tag", "other", "--alias", "best")
    command(server, "tag", "other@best", "--drop", "best")
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers) as admin:
        events = admin.get("/admin/v1/audit").json()["data"]
        assert [(each["action"], each["target"]) for each in events[:3]] == [
            ("model.alias_drop", "other@best"),
            ("model.alias", "other@best to 1"),
            ("model.adopt", "other@1"),
        ]
        secret = admin.post("/admin/v1/keys", json={"name": "laptop", "role": "user"}).json()["secret"]
    refused = pileus("models", "tag", "other", "--alias", "x", PILEUS_URL=server.base_url, PILEUS_API_KEY=secret)
    assert refused.returncode == 1
    assert "lacks the permission models.manage" in refused.stderr


def test_without_a_server_the_folder_itself_is_asked_and_with_one_it_is_not_opened(
    server: Server, tmp_path: Path
) -> None:
    alone = pileus("models", "versions", "--data", str(tmp_path / "data"), "--json")
    assert (alone.returncode, json.loads(alone.stdout)) == (0, [])
    busy = pileus("models", "versions", "--data", str(server.data))
    assert busy.returncode == 1
