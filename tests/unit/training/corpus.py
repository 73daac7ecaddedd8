"""Small made-up data to train on, and a run's follower."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.json import encode
from tokenizers import Tokenizer

from pileus.data import tokenising
from pileus.data.shards import MANIFEST, Manifest, Shard

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.training import ranks  # stands on PyTorch
from pileus.training.loop import Outcome
from pileus.training.prepared import prepare
from pileus.training.spec import Train
from pileus.training.tokens import train_tokenizer

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "ran", "fast", "slow", "red", "blue"]
SHAPE: dict[str, Any] = {"width": 32, "heads": 2, "layers": 2, "vocabulary": 300}
SMALL: dict[str, Any] = SHAPE | {
    "context": 16,
    "batch": 8,
    "rate": 3e-3,
    "log_every": 1,
    "threads": 1,
}


def write_data(folder: Path, recipe: str, rows: int = 120) -> Path:
    """What that recipe learns from."""
    drawn = random.Random(recipe)
    phrases = [drawn.choices(WORDS, k=5) for _ in range(rows)]
    if recipe in ("gpt", "bert"):
        return _written(folder / "text.txt", "".join(" ".join(phrase) + "\n" for phrase in phrases))
    if recipe == "seq2seq":
        lines = (f"{' '.join(phrase)}\t{' '.join(reversed(phrase))}\n" for phrase in phrases)
        return _written(folder / "pairs.tsv", "".join(lines))
    if recipe == "encoder":
        pairs = [{"anchor": " ".join(phrase), "positive": " ".join(reversed(phrase))} for phrase in phrases]
        return _written(folder / "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    labelled = [
        {"text": f"{' '.join(phrase)} {('bad', 'good')[place % 2]}", "label": ("no", "yes")[place % 2]}
        for place, phrase in enumerate(phrases)
    ]
    return _written(folder / "labelled.jsonl", "".join(json.dumps(row) + "\n" for row in labelled))


def write_dataset(folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Packed shards of three splits' worth of small numbers, as data preparation writes them."""
    folder.mkdir()
    tokenizer = tokenizer or train_tokenizer(["the cat sat on the mat"], 300, "gpt").backend_tokenizer
    tokenizer.save(str(folder / "tokenizer.json"))
    splits = {}
    for name, count in (("train", 100), ("validation", 40)):
        np.arange(count, dtype="<u2").tofile(folder / f"{name}-0.tokens")
        np.array([count], dtype="<u8").tofile(folder / f"{name}-0.ends")
        splits[name] = [Shard(name=f"{name}-0", tokens=count, documents=1, sha256="")]
    special = tokenising.special_tokens(tokenizer)
    manifest = Manifest(id="d", width=2, vocabulary=300, end_of_text=0, special_tokens=special, splits=splits)
    (folder / MANIFEST).write_bytes(encode(manifest))


def spec_of(folder: Path, recipe: str, **changes: Any) -> Train:
    """Of a small run on data that is written into the folder; the shape is a base's, where it begins from one."""
    usual = {name: value for name, value in SMALL.items() if "base" not in changes or name not in SHAPE}
    return Train(recipe=recipe, data=(str(write_data(folder, recipe)),), **usual | changes)


class Follower:
    """A `Watcher` that keeps what it is told, and may stop the run after a step."""

    def __init__(self, stop_after: int = 0, on_told: Callable[[int], None] | None = None) -> None:
        self.figures: dict[int, dict[str, float]] = {}
        self.checkpoints: list[int] = []
        self._stop_after = stop_after
        self._on_told = on_told
        self._step = 0

    @property
    def losses(self) -> list[float]:
        return [figures["loss"] for figures in self.figures.values()]

    def told(self, step: int, steps: int, figures: dict[str, float]) -> None:
        self.figures[step] = figures
        self._step = step
        if self._on_told:
            self._on_told(step)

    def kept(self, step: int, steps: int) -> None:
        self.checkpoints.append(step)

    def stops(self) -> bool:
        return bool(self._stop_after) and self._step + 1 >= self._stop_after


def train(spec: Train, folder: Path, follower: Follower | None = None) -> ranks.Trained:
    """Prepare and run, as a job does."""
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare(spec, folder, Path(spec.base) if spec.base else None, lambda _: None)
    return ranks.run(
        ranks.Work(spec=spec, folder=str(folder), data=str(data), base=spec.base or None), follower or Follower()
    )


def figures_of(outcome: Outcome) -> tuple[int, float, float | None]:
    return outcome.step, outcome.loss, outcome.validation_loss


def _written(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file
