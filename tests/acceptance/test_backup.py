"""A backup of a server at work, restored into a new folder, serves again: keys, budgets, deployments, audit, jobs."""

import hashlib
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from acceptance.process import Server, pileus, running_server
from pileus.store.sqlite import DATABASE_FILE

CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
"""
CONTENT = b"a file that somebody stored\n" * 40_000


@pytest.fixture
def fake(tmp_path: Path) -> tuple[str, str]:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    return "--config", str(config)


def folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def ask(server: Server, key: str) -> int:
    """The tokens that one request used."""
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=key, max_retries=0) as client:
        usage = client.completions.create(model="fake", prompt="clouds", max_tokens=5).usage
        assert usage is not None
        return usage.total_tokens


def admin(server: Server, key: str, method: str, path: str, body: object = None) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    response = httpx.request(method, f"{server.base_url}/admin/v1/{path}", headers=headers, json=body, trust_env=False)
    assert response.is_success, response.text
    return response.json()


def store_a_file(data: Path) -> None:
    """As the server would have it."""
    place = data / "blobs" / "files"
    place.mkdir(parents=True)
    (place / "file_1").write_bytes(CONTENT)
    row = (
        "file_1",
        "default",
        "k",
        "a.txt",
        "batch",
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
        "files/file_1",
        1,
    )
    columns = "id, tenant, key_id, filename, purpose, bytes, sha256, blob, created_at"
    with closing(sqlite3.connect(data / DATABASE_FILE)) as database:
        database.execute(f"INSERT INTO file ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        database.commit()


def tokens_of(data: Path) -> tuple[int, int]:
    """All tokens, by the rows and by the sums."""
    with closing(sqlite3.connect(data / DATABASE_FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [(rows,)] = database.execute("SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage")
        [(sums,)] = database.execute("SELECT coalesce(sum(tokens), 0) FROM usage_total")
    return rows, sums


def test_a_backup_of_a_busy_server_serves_again_in_a_new_folder(tmp_path: Path, fake: tuple[str, str]) -> None:
    data, again, archive = folder(tmp_path / "data"), tmp_path / "again", tmp_path / "monday.tar"
    with running_server(data, *fake) as server:
        boss = server.admin_key
    store_a_file(data)
    with running_server(data, *fake) as server, ThreadPoolExecutor(4) as pool:
        user = admin(server, boss, "POST", "keys", {"name": "laptop", "role": "user"})
        admin(server, boss, "PUT", "deployments/second", {"name": "second", "model": "fake", "engine": "fake"})
        known = sum(ask(server, user["secret"]) for _ in range(20))
        stopping = threading.Event()

        def go_on() -> None:
            while not stopping.is_set():
                ask(server, user["secret"])
                admin(server, boss, "POST", "keys", {"name": "more", "role": "user"})

        wait_until_written(server, boss, known)
        busy = [pool.submit(go_on) for _ in range(4)]
        made = pileus("backup", str(archive), "--json", PILEUS_URL=server.base_url, PILEUS_API_KEY=boss)
        stopping.set()
        for each in busy:
            each.result(30)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["absent"] == []

    ran = pileus("restore", str(archive), "--data", str(again))
    assert ran.returncode == 0, ran.stderr
    assert (again / "blobs" / "files" / "file_1").read_bytes() == CONTENT
    rows, sums = tokens_of(again)
    assert rows == sums >= known

    with running_server(again, *fake) as second:
        assert "sk-pileus-" not in second.greeting, "it has its keys already"
        assert ask(second, user["secret"]) > 0
        [key] = [key for key in admin(second, boss, "GET", "keys")["data"] if key["id"] == user["id"]]
        assert key["used_tokens"] >= known
        assert "second" in [each["name"] for each in admin(second, boss, "GET", "deployments")["data"]]
        actions = [event["action"] for event in admin(second, boss, "GET", "audit?limit=1000")["data"]]
        assert {"server.start", "key.create", "deployment.deploy", "backup.make"} <= set(actions)


def wait_until_written(server: Server, key: str, tokens: int) -> None:
    """Usage is written once a second."""
    for _ in range(1000):
        rows = admin(server, key, "GET", "usage")["data"]
        if sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows) >= tokens:
            return
        threading.Event().wait(0.02)
    raise AssertionError("usage was not written")


def test_a_user_may_not_have_a_backup(tmp_path: Path, fake: tuple[str, str]) -> None:
    with running_server(folder(tmp_path / "data"), *fake) as server:
        user = admin(server, server.admin_key, "POST", "keys", {"name": "laptop", "role": "user"})
        archive = tmp_path / "x.tar"
        ran = pileus("backup", str(archive), PILEUS_URL=server.base_url, PILEUS_API_KEY=user["secret"])
    assert ran.returncode == 1
    assert "lacks the permission backup" in ran.stderr
    assert not archive.exists()


def test_through_a_further_gateway_process_it_is_the_same(tmp_path: Path, fake: tuple[str, str]) -> None:
    archive = tmp_path / "x.tar"
    with running_server(folder(tmp_path / "data"), *fake, "--gateways", "2") as server:
        ran = pileus("backup", str(archive), PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
    assert ran.returncode == 0, ran.stderr
    assert archive.stat().st_size > 10_000
