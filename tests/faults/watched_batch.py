"""A batch on a real server, looked at from outside: its results, its checkpoint, its files, and what was billed."""

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types import Batch

from acceptance.process import Server
from pileus.batch.records import BatchCheckpoint, decode_checkpoint
from pileus.store.job_table import JobState
from pileus.store.sqlite import DATABASE_FILE

_LOOK_S = 0.005


class WatchedBatch:
    """To be closed. On the fake model each line's prompt and answer have lengths that no other line's have both, so
    that its bills are known; on another the lines are short."""

    def __init__(self, server: Server, lines: int, model: str = "fake") -> None:
        self.lines = lines
        self._key = server.admin_key
        self._client = self._connect(server)
        content = "\n".join([json.dumps(_line(place, model)) for place in range(lines)]).encode()
        stored = self._client.files.create(file=("in.jsonl", content), purpose="batch")
        self.id = self._client.batches.create(
            input_file_id=stored.id, endpoint="/v1/completions", completion_window="24h"
        ).id

    def close(self) -> None:
        self._client.close()

    def move(self, server: Server) -> None:
        """The server is that one now."""
        self.close()
        self._client = self._connect(server)

    def _connect(self, server: Server) -> OpenAI:
        self.server = server
        return OpenAI(base_url=f"{server.base_url}/v1", api_key=self._key, max_retries=5)

    # --- what is there ---

    def seen(self) -> Batch:
        return self._client.batches.retrieve(self.id)

    def checkpoint(self) -> BatchCheckpoint:
        """As it is committed in the store."""
        [(body,)] = self._rows("SELECT checkpoint FROM job WHERE id = ?", self.id)
        return decode_checkpoint(body)

    def folder(self) -> Path:
        return self.server.data / "jobs" / self.id

    def committed(self) -> dict[int, bytes]:
        """The results that the committed checkpoint covers, by line."""
        found: dict[int, bytes] = {}
        for segment in self.checkpoint().segments:
            content = (self.folder() / segment.name).read_bytes()[: segment.length]
            for record in content.splitlines():
                place, _, result = record.split(b" ", 2)
                assert int(place) not in found
                found[int(place)] = result
        return found

    def uncommitted_bytes(self) -> int:
        """What stands in segments beyond what a checkpoint covers."""
        written = sum(path.stat().st_size for path in self.folder().glob("results.*"))
        return written - sum(segment.length for segment in self.checkpoint().segments)

    def output(self) -> list[bytes]:
        file_id = self.seen().output_file_id
        assert file_id is not None
        return self._client.files.content(file_id).content.splitlines()

    def runs(self) -> list[tuple[str, tuple[int, int]]]:
        """Request, and tokens of prompt and answer, of all that was answered; in that order."""
        rows = self._rows(
            "SELECT request_id, prompt_tokens, completion_tokens FROM usage WHERE outcome = 'length' ORDER BY sequence"
        )
        return [(request_id, (prompt, answer)) for request_id, prompt, answer in rows]

    # --- what is done to it ---

    def workers(self) -> list[int]:
        """Processes that run it."""
        return [pid for pid in self.server.children() if b"job-worker" in _command(pid)]

    def replicas(self) -> list[int]:
        """Processes that answer its lines."""
        return [pid for pid in self.server.children() if b"pileus\0worker" in _command(pid)]

    def kill(self, pids: Sequence[int] = ()) -> None:
        """These, or its workers."""
        for pid in pids or self.workers():
            os.kill(pid, signal.SIGKILL)

    def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Ask until it is so: what happens in other processes gives no event to wait for."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"it did not come to pass: {self.seen()}"
            time.sleep(_LOOK_S)

    def until_ended(self, within_s: float = 60.0) -> Batch:
        self.until(self.ended, within_s)
        return self.seen()

    def done(self) -> int:
        counts = self.checkpoint().counts
        return counts.completed + counts.failed

    def kill_often(self, times: int, seed: int, apart: int, known: dict[int, bytes], replicas: float = 0.0) -> int:
        """Kill its worker so often, or until it has ended: mostly when up to `apart` more lines are committed, and now
        and then before it gets so far. How often that was. Adds to `known` what was committed before each kill. With
        that probability it is a replica that is killed."""
        chance = random.Random(seed)
        for kill in range(times):
            self.until(lambda: self.workers() or self.ended())
            if chance.random() < 0.8:
                goal = self.done() + chance.randint(0, apart)
                self.until(lambda goal=goal: self.done() > goal or self.ended())  # type: ignore[misc]
            time.sleep(chance.random() * 0.3)  # the random point, not a wait for anything
            if self.ended():
                return kill
            known.update(self.committed())
            self.kill(self.replicas() if chance.random() < replicas else ())
        return times

    def ended(self) -> bool:
        [(state,)] = self._rows("SELECT state FROM job WHERE id = ?", self.id)
        return state not in (JobState.QUEUED, JobState.RUNNING)

    # --- what must be true ---

    def check(self, known: dict[int, bytes], *, exact: bool) -> int:
        """Every line has one result, which is the one that was committed first, and none was run after that. How many
        runs there were beyond one for each line."""
        batch = self.seen()
        assert batch.status == "completed", batch
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": self.lines, "completed": self.lines, "failed": 0}
        output = self.output()
        assert [json.loads(line)["custom_id"] for line in output] == [f"line-{n}" for n in range(self.lines)]
        for place, result in known.items():
            assert output[place] == result
        return self._check_runs(output) if exact else 0

    def _check_runs(self, output: Sequence[bytes]) -> int:
        lines = {_tokens(place) for place in range(self.lines)}
        self.until(lambda: lines <= {tokens for _, tokens in self.runs()})  # they are written soon after
        runs = self.runs()
        last = {tokens: request_id for request_id, tokens in runs}
        for place, line in enumerate(output):
            told = json.loads(line)["response"]["request_id"]
            assert last[_tokens(place)] == told, f"line {place} was run again"
        return len(runs) - self.lines

    def _rows(self, query: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.server.data / DATABASE_FILE}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


def _tokens(place: int) -> tuple[int, int]:
    """Of its prompt and of its answer."""
    return place % 1000 + 1, place // 1000 + 2


def _line(place: int, model: str) -> dict[str, Any]:
    prompt, answer = _tokens(place)
    body = {"model": model, "prompt": "x" * prompt, "max_tokens": answer, "seed": place}
    if model != "fake":
        body |= {"prompt": f"Count on from {place}:", "max_tokens": 8, "ignore_eos": True}
    return {"custom_id": f"line-{place}", "method": "POST", "url": "/v1/completions", "body": body}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
