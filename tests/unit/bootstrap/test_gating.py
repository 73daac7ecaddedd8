"""Where fine-tunings meet the gate: what is asked, in a real process, and what comes back."""

import asyncio
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from pileus.bootstrap.gating import fine_tuning_judge
from pileus.bootstrap.local import open_catalogue
from pileus.config.settings import FineTuning, Settings
from pileus.evaluation.records import GateResult
from pileus.jobs.handler import JobFailed
from pileus.models.adapter import belonging_to
from pileus.models.artefact import MANIFEST, digest_file
from pileus.models.low_rank import install_adapter
from pileus.models.progress import silent
from pileus.models.store import MODELS_FOLDER, ModelStore
from pileus.store.job_table import Job, Wish
from pileus.testing.adapters import random_tensors, write_adapter
from pileus.training.finetune.encoding import Encoded
from pileus.training.finetune.judging import Case
from tuned import BASE, install_tiny_base

SIZES = {"q_proj": (32, 32), "down_proj": (48, 32)}
ITEMS = tuple((Encoded([3 + n, 20, 40, 60 + n], [False, False, True, True]),) for n in range(5))


class Lease:
    """A `Context` of which nothing is asked."""

    def __init__(self, folder: Path) -> None:
        self.job = Job(id="ftjob-1", kind="fine_tune", tenant="t", key_id="k", spec=b"{}", created_at=0.0)
        self.folder = folder
        self.wish = Wish.NONE
        self.stages: list[str] = []

    async def wished(self) -> Wish:
        await asyncio.Event().wait()
        return Wish.NONE

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None: ...

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append(stage)

    def log(self, text: str, level: str = "info") -> None: ...


def case(*candidates: str) -> Case:
    return Case(base=BASE, candidates=candidates, items=ITEMS, held_out=True, beta=0.1)


async def test_what_a_fine_tuning_left_is_judged_in_a_process_of_its_own(tmp_path: Path) -> None:
    install_tiny_base(tmp_path)
    settings = Settings(data_dir=tmp_path, fine_tuning=FineTuning(gate_margin=0.5))
    catalogue, store = open_catalogue(settings), ModelStore(tmp_path / MODELS_FOLDER)
    belonging = belonging_to(catalogue.require(BASE))
    for seed, (name, size) in enumerate({"tiny:good": 0.001, "tiny:bad": 3.0}.items()):
        folder = write_adapter(tmp_path / name, random_tensors(seed, 4, list(SIZES), 2, SIZES, size), 4)
        with store.hold(name, silent):
            install_adapter(folder, name, belonging, store, source="test")
    judge = fine_tuning_judge(settings, catalogue)
    assert judge is not None
    lease = Lease(tmp_path)
    rulings = await judge(lease, case("tiny:good", "tiny:bad"))
    assert isinstance(rulings, tuple)
    good, bad = rulings
    assert (good.candidate, good.refusal) == ("tiny:good", "")
    assert bad.refusal.startswith("loss: its loss on 5 held-out items is ")
    assert "at most +0.5 is allowed" in bad.refusal
    verdict = msgspec.json.decode(bad.evidence, type=GateResult)
    assert (verdict.passed, verdict.parent, verdict.margins) == (False, BASE, None)
    assert verdict.sha256 == digest_file(catalogue.require("tiny:bad").path / MANIFEST).sha256
    assert verdict.parent_sha256 == digest_file(catalogue.require(BASE).path / MANIFEST).sha256
    assert "reading" in lease.stages
    with pytest.raises(JobFailed, match="gone"):
        await judge(lease, case("tiny:gone"))


def test_without_a_gate_in_the_settings_nothing_is_judged(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, fine_tuning=FineTuning(gate=False))
    assert fine_tuning_judge(settings, open_catalogue(settings)) is None
