import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode

from pileus.config.settings import Settings
from pileus.jobs.child import ChildDied, run_child
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.jobs.metrics import METRICS_FILE, read_points
from pileus.store.job_table import Job, Wish

_HERE = Path(__file__).parent


class Lease:
    """A `Context` that keeps what it is told."""

    def __init__(self, folder: Path, act: str, checkpoint: bytes = b"") -> None:
        self.job = Job(
            id="job_1",
            kind="k",
            tenant="t",
            key_id="key",
            spec=encode({"act": act}),
            created_at=0.0,
            checkpoint=checkpoint,
        )
        self.folder = folder
        self.bodies: list[bytes] = []
        self.told: list[str] = []
        self.began = asyncio.Event()
        self.asked: asyncio.Future[Wish] = asyncio.get_running_loop().create_future()

    @property
    def wish(self) -> Wish:
        return self.asked.result() if self.asked.done() else Wish.NONE

    async def wished(self) -> Wish:
        return await asyncio.shield(self.asked)

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self.bodies.append(body)
        self.began.set()

    def progress(self, stage: str, done: int, total: int) -> None:
        self.told.append(stage)

    def log(self, text: str, level: str = "info") -> None:
        self.told.append(text)


async def run(lease: Lease) -> Any:
    return await run_child(lease, "child_work", Settings(), environment={"PYTHONPATH": str(_HERE)})


async def test_a_child_gives_its_result_and_tells_on_the_way(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "count")
    assert await run(lease) == b'{"steps":1}'
    assert lease.bodies == [b'{"steps":1}']
    assert lease.told == ["port 8000"]
    (point,) = read_points(tmp_path / METRICS_FILE, 10)
    assert point.values == {"loss": 1.0}
    assert "a library prints this" in (tmp_path / "process.log").read_text()


@pytest.mark.parametrize(("given", "spins"), [(None, "10000"), ("7", "7")])
async def test_a_childs_threads_do_not_spin_long_unless_somebody_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, spins: str
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    await run(Lease(tmp_path, "spin"))
    assert f"spins {spins}" in (tmp_path / "process.log").read_text()


async def test_a_child_finds_a_data_folder_that_was_named_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job").mkdir()
    lease = Lease(Path("job"), "where")
    settings = Settings(data_dir=Path("data"))
    await run_child(lease, "child_work", settings, environment={"PYTHONPATH": str(_HERE)})
    assert lease.told == [str(tmp_path / "data")]
    assert read_points(tmp_path / "job" / METRICS_FILE, 10)


async def test_a_child_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "count", checkpoint=b'{"steps":4}')
    assert await run(lease) == b'{"steps":5}'


async def test_a_child_that_is_asked_to_pause_yields(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "wait")
    running = asyncio.ensure_future(run(lease))
    await lease.began.wait()
    lease.asked.set_result(Wish.PAUSE)
    assert await running is YIELDED


async def test_what_a_child_refuses_fails_the_job_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="line 3 is no JSON") as refusal:
        await run(Lease(tmp_path, "refuse"))
    assert refusal.value.code == "bad_data"


async def test_a_library_that_is_not_there_fails_the_job_at_once_and_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="torch_of_tomorrow is not installed here: `make extras`") as refusal:
        await run(Lease(tmp_path, "lack"))
    assert refusal.value.code == "not_installed"


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("crash", "status 1: RuntimeError: out of luck"),
        ("die", "SIGKILL"),
        ("lose", "ModuleNotFoundError: No module named 'pileus.nothing'"),
    ],
)
async def test_a_child_that_dies_is_told_with_its_last_words(tmp_path: Path, act: str, why: str) -> None:
    with pytest.raises(ChildDied, match=why):
        await run(Lease(tmp_path, act))


async def test_a_cancelled_child_is_gone(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "wait")
    running = asyncio.ensure_future(run(lease))
    await lease.began.wait()
    assert _working_in(tmp_path)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not _working_in(tmp_path)


def _working_in(folder: Path) -> list[str]:
    """Processes whose working directory it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(process.name)
    return found
