"""A tiny base that can be fine-tuned, examples for it, and a fine-tuning's process without a server."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from made_models import TEMPLATE
from pileus.config.settings import FineTuning, Models, Settings
from pileus.jobs.child import Brief, Told
from pileus.jobs.metrics import METRICS_FILE
from pileus.jobs.task import Task
from pileus.models.catalogue import Catalogue
from pileus.models.progress import silent
from pileus.models.store import MODELS_FOLDER, ModelStore
from pileus.training.finetune.plan import plan_of
from pileus.training.finetune.records import (
    TRAINING_FILE,
    VALIDATION_FILE,
    Checked,
    FineTuneCheckpoint,
    FineTuneSpec,
    Method,
    Order,
    Source,
    Wishes,
)
from reference_models import save_reference

BASE = "tiny"
_END = 2  # the id of <|im_end|>
_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}


def install_tiny_base(data_dir: Path, name: str = BASE, **shape: int) -> None:
    """Its artefact and its master, random."""
    models = data_dir / MODELS_FOLDER
    store = ModelStore(models)
    folder = data_dir / "tiny"
    save_reference(folder, "LlamaConfig", _WIDE | shape)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": _END}))
    Catalogue(models, Models()).import_folder(folder, name)
    with store.hold(name, silent), store.scratch(name) as scratch:
        store.keep_master(folder.rename(scratch / "master"), name)


def example(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def preference(question: str, better: str, worse: str) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse}],
    }


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


EXAMPLES = [example(f"What is {number}?", f"{number} it is.") for number in range(24)]
HELD_OUT = [example(f"What is {number}?", f"{number} it is.") for number in range(30, 36)]
PREFERENCES = [preference(f"Is {number} even?", "yes" if number % 2 == 0 else "no", "maybe") for number in range(16)]


def order_for(folder: Path, *, lines: list[dict[str, Any]] = EXAMPLES, held_out: Any = None, **changes: Any) -> Order:
    """What the handler would give to the process, with its files in the job's folder."""
    method, wishes = changes.pop("method", Method.SUPERVISED), changes.pop("wishes", Wishes(n_epochs=2, batch_size=4))
    (folder / TRAINING_FILE).write_bytes(jsonl(lines))
    if held_out:
        (folder / VALIDATION_FILE).write_bytes(jsonl(held_out))
    source = Source("file-1", "files/file-1", 1)
    spec = FineTuneSpec(
        model=BASE,
        deployment=BASE,
        base=BASE,
        adapter="mine",
        output=f"{BASE}:mine",
        training=source,
        validation=source if held_out else None,
        method=method,
        wishes=wishes,
        seed=7,
    )
    plan = plan_of(wishes, len(lines), 256)
    checked = Checked(examples=len(lines), tokens=0, longest=0, validation_examples=len(held_out or ()), plan=plan)
    return Order(job_id="ftjob-1", spec=spec, checked=checked, running_at=1000.0)


class OwnTask:
    """A task of this process, and what it told."""

    def __init__(self, data_dir: Path, folder: Path, order: Order, *, checkpoint_s: float = 1000.0) -> None:
        settings = Settings(data_dir=data_dir, fine_tuning=FineTuning(checkpoint_s=checkpoint_s))
        brief = Brief(
            spec=Raw(msgspec.json.encode(order)),
            folder=str(folder),
            metrics=str(folder / METRICS_FILE),
            settings=Raw(settings.model_dump_json().encode()),
        )
        self._out = io.BytesIO()
        self.task = Task(brief, self._out)

    @property
    def told(self) -> list[Told]:
        return [msgspec.json.decode(line, type=Told) for line in self._out.getvalue().splitlines()]

    @property
    def checkpoints(self) -> list[FineTuneCheckpoint]:
        bodies = [told.checkpoint[3] for told in self.told if told.checkpoint is not None]
        return [msgspec.json.decode(body, type=FineTuneCheckpoint) for body in bodies]

    @property
    def lines(self) -> list[str]:
        return [told.log[1] for told in self.told if told.log is not None]
