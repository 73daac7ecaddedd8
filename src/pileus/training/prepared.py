"""The data of a run as ids on disk, memory-mapped: made once, before the first step, and read by every process.

A folder with `tokenizer/`, and arrays in NumPy's format. It appears by a rename, so it is whole or absent.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from pileus.data.shards import MANIFEST, ShardReader, read_manifest
from pileus.jobs.handler import JobFailed
from pileus.store.durable import sync_folder
from pileus.training.rows import demand_files, read_rows, read_texts
from pileus.training.spec import Train
from pileus.training.tokens import (
    demand_same,
    demand_special,
    encoded,
    open_given,
    open_packed,
    open_tokenizer,
    train_tokenizer,
)

_FIELDS: Final = {"classifier": ("text", "label"), "encoder": ("anchor", "positive"), "seq2seq": ("source", "target")}
TOKENIZER: Final = "tokenizer"
_ABOUT: Final = "about.json"
_AT_ONCE: Final = 1 << 20  # tokens that are copied together

Tell = Callable[[str], None]
_Row = tuple[str, ...]  # the recipe's fields


class About(Struct, frozen=True):
    """What the arrays are of."""

    examples: int
    held_out: int
    labels: tuple[str, ...] = ()  # of a classifier, in the order of their numbers


class Ragged:
    """Rows of ids of different lengths: one after the other, and where each begins."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ids = np.load(folder / f"{name}.ids.npy", mmap_mode="r")
        self._begins = np.load(folder / f"{name}.begins.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._begins) - 1

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return np.asarray(self._ids[self._begins[index] : self._begins[index + 1]], np.int64)

    @staticmethod
    def write(folder: Path, name: str, rows: Iterable[Sequence[int]]) -> None:
        taken = [np.asarray(row, np.uint32) for row in rows]
        begins = np.cumsum([0, *map(len, taken)], dtype=np.int64)
        np.save(folder / f"{name}.ids.npy", np.concatenate([*taken, np.empty(0, np.uint32)]))
        np.save(folder / f"{name}.begins.npy", begins)


def prepare(spec: Train, folder: Path, base: Path | None, tell: Tell) -> Path:
    """Make the folder unless it is there. Raises `JobFailed` for bad data, with the line."""
    target = folder / "data"
    if target.is_dir():
        return target
    files = [] if spec.reads_text and packed(spec.data_files) else spec.data_files
    demand_files([*files, *spec.validation_files])
    draft = folder / ".data"
    rmtree(draft, ignore_errors=True)
    draft.mkdir()
    tokenizer = _tokenizer(spec, base, tell)
    demand_special(tokenizer, spec.recipe)
    tokenizer.save_pretrained(draft / TOKENIZER)
    tell("tokenising")
    about = _write_stream(spec, tokenizer, draft) if spec.reads_text else _write_rows(spec, tokenizer, draft)
    if about.examples < 1:
        raise JobFailed("the data is too little for one example", code="bad_data")
    (draft / _ABOUT).write_bytes(msgspec.json.encode(about))
    draft.rename(target)
    sync_folder(folder)
    return target


def about(folder: Path) -> About:
    return msgspec.json.decode((folder / _ABOUT).read_bytes(), type=About)


def tokenizer_of(folder: Path) -> PreTrainedTokenizerFast:
    return open_tokenizer(folder / TOKENIZER)


def _tokenizer(spec: Train, base: Path | None, tell: Tell) -> PreTrainedTokenizerFast:
    dataset = packed(spec.data_files)
    if dataset and spec.vocabulary is not None:
        words = f"`vocabulary` should be left out: {dataset} has the tokenizer that it was made with"
        raise JobFailed(words, code="bad_data")
    if given := Path(spec.tokenizer) if spec.tokenizer else base:
        tokenizer = open_given(given, spec.recipe)
        if dataset:
            demand_same(tokenizer, dataset)
        return tokenizer
    if dataset:
        return open_packed(dataset, spec.recipe)
    tell("training the tokenizer")
    return train_tokenizer(_texts(spec, spec.data_files), spec.shape.vocabulary, spec.recipe)


def _texts(spec: Train, files: Sequence[Path]) -> Iterable[str]:
    if spec.reads_text:
        return read_texts(files)
    rows = read_rows(files, _FIELDS[spec.recipe])
    if spec.recipe == "classifier":
        return (text for text, _ in rows)
    return (text for row in rows for text in row)


# --- one stream of tokens -------------------------------------------------------------------------------------------


def packed(files: Sequence[Path]) -> Path | None:
    """The dataset that `pileus data prepare` made, if that is what is given."""
    return files[0] if len(files) == 1 and (files[0] / MANIFEST).is_file() else None


def _write_stream(spec: Train, tokenizer: PreTrainedTokenizerFast, folder: Path) -> About:
    dataset = packed(spec.data_files)
    ids: _Ids = _stream(tokenizer, spec.data_files) if dataset is None else _Split(dataset, "train")
    cut = len(ids)
    if dataset is not None and not spec.validation and "validation" in read_manifest(dataset).splits:
        held_out: _Ids = _Split(dataset, "validation")
    elif spec.validation:
        held_out = _stream(tokenizer, spec.validation_files)
    else:
        cut -= int(len(ids) * spec.holdout)
        held_out = ids[cut:]
    _write(ids, cut, folder / "train.npy")
    _write(held_out, len(held_out), folder / "validation.npy")
    return About(max(0, cut - 1) // spec.context, max(0, len(held_out) - 1) // spec.context)


class _Split:
    """A split of a dataset, as an array that is never in memory as a whole. Raises `JobFailed` for a damaged one."""

    def __init__(self, folder: Path, name: str) -> None:
        try:
            self._reader = ShardReader(folder, name)
        except ValueError as error:
            raise JobFailed(str(error), code="bad_data") from None

    def __len__(self) -> int:
        return self._reader.tokens

    def __getitem__(self, part: slice) -> NDArray[np.uint32]:
        begin, end, _ = part.indices(len(self))
        return self._reader.span(begin, max(0, end - begin)).astype(np.uint32)


_Ids = NDArray[np.uint32] | _Split


def _write(ids: _Ids, count: int, file: Path) -> None:
    """The first so many, some at a time."""
    if not count:
        np.save(file, np.empty(0, np.uint32))
        return
    written = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint32, shape=(count,))
    for begin in range(0, count, _AT_ONCE):
        end = min(begin + _AT_ONCE, count)
        written[begin:end] = ids[begin:end]
    written.flush()


def _stream(tokenizer: PreTrainedTokenizerFast, files: Sequence[Path]) -> NDArray[np.uint32]:
    """Documents one after the other, with an end after each row or file."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    parts: list[NDArray[np.uint32]] = []
    for file in files:
        is_rows = file.suffix.lower() not in (".txt", ".md", "")
        found = encoded(tokenizer, read_texts([file]), special=False)
        parts.extend(np.array([*ids, end] if is_rows else ids, np.uint32) for ids in found)
        parts.append(np.array([] if is_rows else [end], np.uint32))
    return np.concatenate(parts)


# --- rows -----------------------------------------------------------------------------------------------------------


def _write_rows(spec: Train, tokenizer: PreTrainedTokenizerFast, folder: Path) -> About:
    rows = list(read_rows(spec.data_files, _FIELDS[spec.recipe]))
    if spec.validation:
        held_out = list(read_rows(spec.validation_files, _FIELDS[spec.recipe]))
    else:
        rows, held_out = _split_rows(rows, spec)
    labels = tuple(sorted({label for _, label in rows})) if spec.recipe == "classifier" else ()
    for name, some in (("train", rows), ("validation", held_out)):
        _write_columns(spec, tokenizer, folder, name, some, labels)
    return About(len(rows), len(held_out), labels)


def _split_rows(rows: list[_Row], spec: Train) -> tuple[list[_Row], list[_Row]]:
    """Every so-manieth row is held out; but a label that no other row has is learnt."""
    every = round(1 / spec.holdout) if spec.holdout else len(rows) + 1
    held_out = [row for number, row in enumerate(rows) if number % every == every - 1]
    learnt = [row for number, row in enumerate(rows) if number % every != every - 1]
    if spec.recipe == "classifier":
        known = {label for _, label in learnt}
        learnt += [row for row in held_out if row[1] not in known]
        held_out = [row for row in held_out if row[1] in known]
    return learnt, held_out


def _write_columns(
    spec: Train,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    name: str,
    rows: Sequence[tuple[str, ...]],
    labels: Sequence[str],
) -> None:
    most = spec.context if spec.recipe != "seq2seq" else spec.context - 1  # room for the end
    for place, field in enumerate(_FIELDS[spec.recipe]):
        if field == "label":
            numbers = {label: number for number, label in enumerate(labels)}
            if unknown := next((label for _, label in rows if label not in numbers), None):
                raise JobFailed(f"the validation set has a label that the data lacks: {unknown!r}", code="bad_data")
            np.save(folder / f"{name}.label.npy", np.array([numbers[label] for _, label in rows], np.int64))
            continue
        special = spec.recipe != "seq2seq"
        texts = (row[place] for row in rows)
        Ragged.write(folder, f"{name}.{field}", encoded(tokenizer, texts, most=most, special=special))
