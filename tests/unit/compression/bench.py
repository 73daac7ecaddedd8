"""A tiny model with its master in a models folder, and the job's process run on it as a worker would."""

import asyncio
import io
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import decode, encode

from pileus.compression.process import work
from pileus.compression.spec import CompressSpec
from pileus.config.settings import Models, Settings
from pileus.jobs.child import Brief, run_child
from pileus.jobs.handler import Yielded
from pileus.jobs.metrics import METRICS_FILE
from pileus.jobs.task import Task
from pileus.models.catalogue import Catalogue
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.store.job_table import Job, Wish
from reference_models import save_reference

PARENT = "tiny"


def install_parent(data_dir: Path, kind: str = "LlamaConfig", **options: Any) -> Path:
    """The master's folder."""
    draft = data_dir / "draft"
    save_reference(draft, kind, {"tie_word_embeddings": True, **options}, "float16")
    Catalogue(data_dir / "models", Models()).import_folder(draft, PARENT)
    store = ModelStore(data_dir / "models")
    with store.hold(PARENT, silent):
        return store.keep_master(draft, PARENT)


class Lease:
    """A `Context` that keeps what it is told; `pause_at` asks it to rest once a stage's line was told so often."""

    def __init__(self, folder: Path, spec: CompressSpec | dict[str, Any], checkpoint: bytes = b"") -> None:
        self.job = Job(
            id="job_1",
            kind="compress",
            tenant="t",
            key_id="key",
            spec=encode(spec),
            created_at=0.0,
            checkpoint=checkpoint,
        )
        self.folder = folder
        self.bodies: list[bytes] = []
        self.stages: list[str] = []
        self.lines: list[str] = []
        self.pause_at: tuple[str, int] | None = None
        self.asked = asyncio.Event()

    @property
    def wish(self) -> Wish:
        return Wish.PAUSE if self.asked.is_set() else Wish.NONE

    async def wished(self) -> Wish:
        await self.asked.wait()
        return Wish.PAUSE

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self.bodies.append(body)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append(stage)
        if self.pause_at == (stage, done):
            self.asked.set()

    def log(self, text: str, level: str = "info") -> None:
        self.lines.append(text)


async def compress(lease: Lease, data_dir: Path) -> dict[str, Any] | Yielded:
    """The job's result."""
    lease.folder.mkdir(parents=True, exist_ok=True)
    given = await run_child(lease, "pileus.compression.process", Settings(data_dir=data_dir))
    return given if isinstance(given, Yielded) else decode(given)


def compress_here(folder: Path, asked: dict[str, Any], data_dir: Path) -> object:
    """The same in this process: for what ends before much is computed."""
    settings = Settings(data_dir=data_dir)
    brief = Brief(
        spec=Raw(encode(asked)),
        folder=str(folder),
        metrics=str(folder / METRICS_FILE),
        settings=Raw(settings.model_dump_json().encode()),
    )
    return work(Task(brief, io.BytesIO()))


def spec(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Quick checks, and no speeds unless they are asked for."""
    checks = {"tokens": 600, "window": 128, "stride": 64, "items": 20, "speed_rounds": 0}
    texts = {"sequences": 8, "length": 32}
    asked = {"model": PARENT, "variants": list(variants), "texts": texts, "checks": checks} | more
    msgspec.convert(asked, CompressSpec)  # a test's own mistakes
    return asked
