"""SmolLM2 learns through the official client what it could not know, and answers by it as it is served."""

import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from acceptance.files_server import client_of, files_server
from pileus.demo.tickets import share_right
from pileus.models.known import SMOLLM2
from pileus.training.finetune.tickets import lines, tickets

MODEL = "smollm2-135m-instruct"
CONFIG = f"""
[[deployment]]
name = "smollm2-135m"
model = "{MODEL}"
options = {{ kv_bytes = 100_000_000 }}
"""
PATIENCE_S = 1200.0


@pytest.mark.slow
def test_smollm2_learns_the_desks_codes(tmp_path: Path, smollm2_path: Path, test_models_dir: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(smollm2_path, models / "artefacts" / MODEL)
    (models / "blobs").mkdir()
    shutil.copyfile(test_models_dir / "blobs" / SMOLLM2.sha256, models / "blobs" / SMOLLM2.sha256)
    held_out = tickets(2, 120, held_out=True)
    with files_server(tmp_path, config=CONFIG) as server, client_of(server) as client:
        before = share_right(client, "smollm2-135m", held_out)
        file = client.files.create(file=("tickets.jsonl", b"".join(lines(tickets(1, 240)))), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="smollm2-135m",
            training_file=file.id,
            suffix="desks",
            seed=1,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        )
        end = time.monotonic() + PATIENCE_S
        while job.status not in ("succeeded", "failed"):
            assert time.monotonic() < end
            time.sleep(0.5)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.fine_tuned_model is not None, job.error
        while job.fine_tuned_model not in {model.id for model in client.models.list()}:
            assert time.monotonic() < end
            time.sleep(0.05)
        after = share_right(client, job.fine_tuned_model, held_out)
        again = share_right(client, "smollm2-135m", held_out)
    print(f"before {before:.1%}, after {after:.1%}, the base beside it {again:.1%}")
    assert before < 0.3
    assert after > 0.9
    assert again == before
