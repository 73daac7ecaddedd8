"""A tiny model that has learnt a text, and copies of its artefact in which something is planted.

A test module that imports this is skipped where the `train` extra is not installed.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from made_models import tokenizer_content
from pileus.config.settings import Models
from pileus.evaluation.checks import PROBE
from pileus.models.artefact import (
    MANIFEST,
    MODEL_BIN,
    MODEL_XML,
    TOKENIZER,
    Manifest,
    digest_file,
    load_artefact,
    write_record,
)
from pileus.models.catalogue import Catalogue

WITHOUT = "the `train` extra is not installed: `make extras`"
torch = pytest.importorskip("torch", reason=WITHOUT)
transformers = pytest.importorskip("transformers", reason=WITHOUT)

_LENGTH, _BATCH = 64, 8


def train(folder: Path, steps: int = 200, hidden: int = 64) -> float:
    """A Hugging Face folder of a Llama of two layers that knows the gate's own text; its last loss in nats."""
    torch.manual_seed(3)
    definition = tokenizer_content()
    text = Path(str(PROBE)).read_text()
    ids = torch.tensor(Tokenizer.from_str(json.dumps(definition)).encode(text).ids)
    config = transformers.LlamaConfig(
        vocab_size=267,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        begins = torch.randint(len(ids) - _LENGTH, (_BATCH,))
        batch = torch.stack([ids[begin : begin + _LENGTH] for begin in begins])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    return float(loss.detach())


def install(folder: Path, models: Path, name: str) -> Path:
    """Its artefact."""
    return Catalogue(models, Models()).import_folder(folder, name).path


def copy(artefact: Path, name: str) -> Path:
    """The same artefact under another name."""
    target = artefact.with_name(name)
    shutil.copytree(artefact, target)
    seal(target)
    return target


def seal(artefact: Path) -> None:
    """Write the manifest anew, as whoever made the files would."""
    old = load_artefact(artefact).manifest
    files = {name: digest_file(artefact / name) for name in old.files}
    manifest = Manifest(
        kind=old.kind, name=artefact.name, licence="", source="test", converter=old.converter, files=files
    )
    write_record(artefact / MANIFEST, manifest)


def matrices(artefact: Path) -> list[tuple[int, int, str]]:
    """(offset, bytes, type of elements) of each two-dimensional constant of floating-point numbers, in their order."""
    found = re.findall(
        r'<data element_type="(f16|f32|bf16)" shape="(\d+), (\d+)" offset="(\d+)" size="(\d+)"',
        (artefact / MODEL_XML).read_text(),
    )
    assert found
    return [(int(offset), int(size), kind) for kind, _, _, offset, size in found]


def change_matrix(artefact: Path, which: int, change: Callable[[Any], None]) -> None:
    """Let `change` work on one matrix in place."""
    offset, size, kind = matrices(artefact)[which]
    dtype = {"f16": np.float16, "f32": np.float32}[kind]
    content = np.fromfile(artefact / MODEL_BIN, np.uint8)
    values = content[offset : offset + size].view(dtype)
    change(values)
    content.tofile(artefact / MODEL_BIN)
    seal(artefact)


def swap_tokens(artefact: Path) -> None:
    """Let each of the letters mean the next one, as another vocabulary of the same size would."""
    path = artefact / TOKENIZER
    definition = json.loads(path.read_text())
    vocabulary = definition["model"]["vocab"]
    letters = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter in vocabulary]
    ids = [vocabulary[letter] for letter in letters]
    vocabulary.update(zip(letters, [*ids[1:], ids[0]], strict=True))
    path.write_text(json.dumps(definition))
    seal(artefact)
