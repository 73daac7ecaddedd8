"""What is done with one piece of input, in any process. All that it needs and makes lies in the job's folder."""

import os
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pileus.data import tokenising
from pileus.data.cleaning import Account, Cleaner
from pileus.data.contamination import Contamination
from pileus.data.duplicates import Fates
from pileus.data.heap import Heap
from pileus.data.inputs import Piece
from pileus.data.packing import Packed, pack
from pileus.data.readers import read
from pileus.data.shards import TOKENIZER
from pileus.data.spec import DataSpec
from pileus.models.tokenizer_file import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def pieces_in(folder: Path) -> Path:
    """Clean documents."""
    return folder / "pieces"


def made_in(folder: Path) -> Path:
    """What becomes the dataset."""
    return folder / "dataset"


def runs_in(folder: Path) -> Path:
    """Of evaluation sets."""
    return folder / "evaluation.npy"


def heap_of(folder: Path, spec: DataSpec, number: int) -> Heap:
    return Heap(pieces_in(folder), number, near=spec.near)


def clean_piece(folder: str, spec: DataSpec, piece: Piece, number: int) -> int:
    """In any process. Gives the bytes of input."""
    account = Account()
    records = chain.from_iterable(read(part, spec.field, spec.documents) for part in piece)
    heap = heap_of(Path(folder), spec, number)
    heap.write(_cleaner(folder, spec).clean(records, account), account)
    return sum(part.size for part in piece)


def pack_piece(folder: str, spec: DataSpec, number: int, fates: Fates) -> tuple[int, Packed]:
    """In any process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process has a core of its own
    made = made_in(Path(folder))
    tokenizer = _loaded(str(made / TOKENIZER))
    end = tokenising.end_of_text(tokenizer, spec.tokenizer.end_of_text)
    heap = heap_of(Path(folder), spec, number)
    return number, pack(heap, number, fates, made, tokenizer, end, (spec.validation, spec.test))


@lru_cache(1)
def _cleaner(folder: str, spec: DataSpec) -> Cleaner:
    return Cleaner(spec, Contamination(np.load(runs_in(Path(folder)))))


@lru_cache(1)
def _loaded(file: str) -> "Tokenizer":
    return open_tokenizer(Path(file))
