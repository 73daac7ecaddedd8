"""A batch's handler over contents in memory, an endpoint that does what the test says, and the rules of real jobs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec

from pileus.batch.endpoint import Answered, Asked
from pileus.batch.handler import BatchHandler
from pileus.batch.records import BatchCheckpoint, BatchResult, BatchSpec, decode_checkpoint, decode_result
from pileus.batch.workplace import Workplace
from pileus.config.settings import Batches
from pileus.core.errors import InvalidRequest, NotFound, PileusError
from pileus.core.records import Principal
from pileus.fleet.directory import ServingDirectory
from pileus.gateway.records import Usage
from pileus.jobs import machine
from pileus.jobs.handler import JobFailed, Yielded
from pileus.store.blobs import BlobInfo
from pileus.store.job_table import Job, JobState, Wish
from pileus.testing.clock import ManualClock

PATH = "/v1/chat/completions"
RETRIES = 5
PATIENCE_S = 20.0


class Killed(Exception):
    """The process ended at this point."""


class MemoryBlobs:
    """See `store.blobs.Blobs`."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.piece_bytes = 1000
        self.on_piece: Callable[[], None] = lambda: None

    async def create(self, key: str) -> "MemoryDraft":
        return MemoryDraft(self, key)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if key not in self.contents:
            raise NotFound
        content = self.contents[key][start:end]
        for at in range(0, len(content), self.piece_bytes):
            yield content[at : at + self.piece_bytes]
            self.on_piece()

    async def delete(self, key: str) -> None:
        self.contents.pop(key, None)

    async def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        for key in self.contents:
            if key.startswith(prefix):
                yield key, 0.0

    async def discard_drafts(self, before: float) -> None: ...


class MemoryDraft:
    def __init__(self, blobs: MemoryBlobs, key: str) -> None:
        self._blobs = blobs
        self._key = key
        self._data = bytearray()

    async def write(self, data: bytes | memoryview) -> None:
        self._data += data

    async def commit(self) -> BlobInfo:
        data = self._blobs.contents[self._key] = bytes(self._data)
        return BlobInfo(self._key, len(data), hashlib.sha256(data).hexdigest())

    async def abort(self) -> None: ...


class ScriptedEndpoint:
    """Answers with the line's own text; `refusals` has errors for the texts that get some, each once."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # texts, in the order in which they were asked for
        self.running = 0
        self.most_running = 0
        self.cancelled: list[str] = []
        self.refusals: dict[str, list[Exception]] = {}
        self.gate: asyncio.Event | None = None  # answers wait for it
        self.free = 0  # so many of them do not
        self.permits: asyncio.Semaphore | None = None  # each answer takes one
        self.reached = asyncio.Event()  # somebody waits there
        self.deadlines: list[float] = []
        self.others_running: list[int] = []  # when each was asked for
        self.on_asked: Callable[[], None] = lambda: None

    def check(self, body: bytes, tenant: str) -> Asked:
        data = json.loads(body)
        if "text" not in data:
            raise InvalidRequest("`text` is required", param="text")
        for name in data.keys() - {"text", "model"}:
            raise InvalidRequest(f"`{name}` is not a field", param=name)
        return Asked(data.get("model", "clouds"), data["text"])

    async def answer(self, body: bytes, principal: Principal, request_id: str, deadline_s: float) -> Answered:
        text = json.loads(body)["text"]
        self.asked.append(text)
        self.deadlines.append(deadline_s)
        self.others_running.append(self.running)
        self.on_asked()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.running -= 1
        if refusals := self.refusals.get(text):
            raise refusals.pop(0)
        return Answered(json.dumps({"said": text}).encode(), Usage(3, 1, 2))

    async def _wait(self) -> None:
        if self.permits is not None:
            await self.permits.acquire()
        if self.gate is not None and len(self.asked) > self.free:
            self.reached.set()
            await self.gate.wait()
        else:
            await asyncio.sleep(0)

    def refusal(self, error: Exception) -> tuple[int, bytes]:
        code = error.code if isinstance(error, PileusError) else "internal_error"
        return 400, json.dumps({"error": {"code": code}}).encode()


class Lease:
    """Meets `jobs.handler.Context`. `kill_at` counts checkpoints, from 1; `heard` says whether the killing one is
    durable."""

    def __init__(self, desk: "Desk", job: Job, *, kill_at: int | None = None, heard: bool = False) -> None:
        self.job = job
        self.folder = desk.folder
        self._desk = desk
        self._kill_at = kill_at
        self._heard = heard
        self._made = 0

    @property
    def wish(self) -> Wish:
        return self._desk.job.wish

    async def wished(self) -> Wish:
        while self.wish is Wish.NONE:
            await self._desk.asked.wait()
        self._desk.heard.set()
        return self.wish

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self._made += 1
        killed = self._made == self._kill_at
        if self._heard or not killed:
            self._desk.job = machine.checkpointed(self._desk.job, self.job.fence, body, stage, done, total)
            self._desk.on_checkpoint(self._desk.checkpoint)
        if killed:
            raise Killed
        await asyncio.sleep(0)

    def progress(self, stage: str, done: int, total: int) -> None:
        self._desk.stages.append(stage)

    def log(self, text: str, level: str = "info") -> None:
        self._desk.told.append(text)
        self._desk.on_told(text)


class Desk:
    """One batch, leased by hand."""

    def __init__(self, folder: Path, lines: Iterable[dict[str, Any]] | bytes, **spec: Any) -> None:
        self.folder = folder
        self.clock = ManualClock(1000.0)
        self.blobs = MemoryBlobs()
        self.endpoint = ScriptedEndpoint()
        self.asked = asyncio.Event()
        self.heard = asyncio.Event()  # the handler knows of the wish, and has done what it does at once
        self.told: list[str] = []
        self.stages: list[str] = []
        self.settings = Batches()
        self.commit_s = 0.0
        self.grace_s = 0.0
        self.principal: Callable[[str], Principal | None] = lambda key_id: Principal(key_id, "t", "user", frozenset())
        self.at_work: BatchHandler | None = None  # of the latest lease
        self.on_told: Callable[[str], None] = lambda _: None
        self.on_checkpoint: Callable[[BatchCheckpoint], None] = lambda _: None
        content = lines if isinstance(lines, bytes) else b"".join(map(line_of, lines))
        self.blobs.contents["files/in"] = content
        batch = BatchSpec(
            input_file_id="file-in",
            blob="files/in",
            bytes=len(content),
            endpoint=PATH,
            completion_window="24h",
            **spec,
        )
        self.job = Job(
            id="batch_1",
            kind="batch",
            tenant="t",
            key_id="key_t",
            spec=msgspec.json.encode(batch),
            created_at=self.clock.wall(),
            due_at=self.clock.wall() + 100.0,
        )

    @property
    def checkpoint(self) -> BatchCheckpoint:
        return decode_checkpoint(self.job.checkpoint)

    @property
    def result(self) -> BatchResult:
        found = decode_result(self.job.result)
        assert found is not None
        return found

    def results(self, name: str) -> list[dict[str, Any]]:
        """The output file's lines, or those of `errors`."""
        file = getattr(self.result, name)
        if file is None:
            return []
        content = self.blobs.contents[file.blob]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
        return [json.loads(line) for line in content.splitlines()]

    def wish(self, wish: Wish) -> None:
        now = self.clock.wall()
        if wish is Wish.PAUSE:
            self.job = machine.paused(self.job)
        elif wish is Wish.CANCEL:
            self.job = machine.cancelled(self.job, now, closes=True)
        else:
            self.job = machine.expired(self.job, now, closes=True)
        self.asked.set()

    def resume(self) -> None:
        self.job = machine.resumed(self.job, needs_met=True)

    async def lease(self, *, kill_at: int | None = None, heard: bool = False) -> None:
        """Have the handler work until it gives the lease back, one way or another."""
        self.asked = asyncio.Event()
        if self.job.wish is not Wish.NONE:
            self.asked.set()
        self.job = machine.leased(self.job, self.clock.wall())
        fence = self.job.fence
        context = Lease(self, self.job, kill_at=kill_at, heard=heard)
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.at_work = self.handler
                ended = await self.at_work(context)
        except Killed:
            self.job = machine.failed(self.job, fence, "killed", "killed", self.clock.wall(), RETRIES, closes=True)
        except JobFailed as error:
            self.job = machine.failed(self.job, fence, error.code, error.message, self.clock.wall(), 0, closes=True)
        else:
            if isinstance(ended, Yielded):
                self.job = machine.yielded(self.job, fence)
            else:
                self.job = machine.finished(self.job, fence, ended, self.clock.wall())

    @property
    def handler(self) -> BatchHandler:
        return BatchHandler(
            Workplace(
                settings=self.settings,
                max_line_bytes=10_000,
                endpoints={PATH: self.endpoint},
                blobs=self.blobs,
                directory=ServingDirectory([], list),
                principal=self.principal,
                clock=self.clock,
                commit_s=self.commit_s,
                grace_s=self.grace_s,
            )
        )

    async def until(self, state: JobState) -> None:
        """Lease it until it is in that state."""
        while self.job.state is not state:
            await self.lease()


def line_of(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def asks(*texts: str) -> list[dict[str, Any]]:
    """A line for each text, whose custom id it is too."""
    return [{"custom_id": text, "method": "POST", "url": PATH, "body": {"text": text}} for text in texts]


def ids(lines: Iterable[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in lines]


async def meanwhile(running: Coroutine[Any, Any, None], act: Callable[[], Awaitable[None]]) -> None:
    """Do something while something else runs."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(running)
        await act()
