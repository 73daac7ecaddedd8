"""A training run as it was after a step, so that it goes on exactly as it would have.

A checkpoint is a folder `step-N`: tensors in safetensors, everything else in JSON, never pickle. It appears by a rename
after all of it is durable, so it is whole or absent, whenever the process is killed.
"""

import os
import random
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import msgspec
import numpy
import torch
from safetensors.torch import load_file, save_file

from pileus.store.durable import sync_folder

_TENSORS: Final = "tensors.safetensors"
_REST: Final = "rest.json"
_PREFIX: Final = "step-"
_TENSOR: Final = "$tensor"  # stands for a tensor in the JSON: its name in the safetensors file
_TUPLE: Final = "$tuple"
_PAIRS: Final = "$pairs"  # a dictionary whose keys are not all text


def save(folder: Path, step: int, state: Any, keep: int = 2) -> Path:
    """Keep `state` (dictionaries, lists, tuples, numbers, texts and tensors, nested) and the newest `keep` checkpoints.
    Durable when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{_PREFIX}{step}"
    rmtree(draft, ignore_errors=True)
    draft.mkdir()
    tensors: dict[str, torch.Tensor] = {}
    rest = _taken_apart(state, tensors)
    save_file(tensors, draft / _TENSORS)
    (draft / _REST).write_bytes(msgspec.json.encode(rest))
    for file in draft.iterdir():
        _sync(file)
    sync_folder(draft)
    target = folder / f"{_PREFIX}{step}"
    rmtree(target, ignore_errors=True)
    draft.rename(target)
    sync_folder(folder)
    for old in checkpoints(folder)[:-keep]:
        rmtree(old)
    return target


def load(checkpoint: Path) -> Any:
    """What was given to `save`."""
    rest = msgspec.json.decode((checkpoint / _REST).read_bytes())
    return _put_together(rest, load_file(checkpoint / _TENSORS))


def checkpoints(folder: Path) -> list[Path]:
    """The whole ones, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(_PREFIX))


def random_state() -> dict[str, Any]:
    """Of every generator that a step may draw from."""
    _, words, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [numpy.asarray(words).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(state: dict[str, Any]) -> None:
    words, position, has_gauss, cached = state["numpy"]
    random.setstate(state["python"])
    numpy.random.set_state(("MT19937", numpy.array(words, dtype=numpy.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _taken_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _taken_apart(each, tensors) for key, each in value.items()}
        return {_PAIRS: [[key, _taken_apart(each, tensors)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_taken_apart(each, tensors) for each in value]}
    if isinstance(value, list):
        return [_taken_apart(each, tensors) for each in value]
    return value


def _put_together(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_put_together(each, tensors) for each in value[_TUPLE])
    if _PAIRS in value:
        return {key: _put_together(each, tensors) for key, each in value[_PAIRS]}
    return {key: _put_together(each, tensors) for key, each in value.items()}


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
