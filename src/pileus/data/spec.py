"""What a preparation is asked for: a recipe, as people write it, and as a job has it; and what the job gives."""

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.data.inputs import PIECE_BYTES
from pileus.data.quality import Rules
from pileus.data.readers import BY_FILE, DOCUMENTS

BPE, UNIGRAM = "bpe", "unigram"
ALGORITHMS: Final = (BPE, UNIGRAM)
END_OF_TEXT: Final = "<|endoftext|>"
SPECIAL_TOKENS: Final = (
    END_OF_TEXT,
    "<|pad|>",
    "<|unk|>",
    "<|mask|>",
    "<|cls|>",
    "<|sep|>",
    "<|im_start|>",
    "<|im_end|>",
)
LEAST_SIMILARITY: Final = 0.7  # where nine of ten pairs are found (`minhash`)
MAX_VOCABULARY: Final = 1_000_000
_MIB: Final = 1 << 20


class TokenizerSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tokenizer to train, or one that there is."""

    algorithm: str = BPE
    vocabulary: int = 16_384
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS  # the first one ends each document
    sample_bytes: int = 128 * _MIB  # of the training texts, that it is trained on
    file: str = ""  # a tokenizer.json to take instead
    end_of_text: str = ""  # of that file, the token that ends each document; found by its usual names

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"`tokenizer.algorithm` should be one of {', '.join(ALGORITHMS)}")
        if not 256 + len(self.special_tokens) <= self.vocabulary <= MAX_VOCABULARY:
            raise ValueError(
                f"`tokenizer.vocabulary` should be from {256 + len(self.special_tokens)} to {MAX_VOCABULARY}"
            )
        if not self.special_tokens or len(set(self.special_tokens)) != len(self.special_tokens):
            raise ValueError("`tokenizer.special_tokens` should be one or more, each once")
        if self.sample_bytes < 1:
            raise ValueError("`tokenizer.sample_bytes` should be at least 1")


class DataSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A preparation. Paths are of the server's machine."""

    inputs: tuple[str, ...]  # files, folders, globs
    out: str  # the folder that is made
    field: str = "text"  # that holds the text, in JSONL, CSV and Parquet
    documents: str = BY_FILE  # what is one document in plain text
    languages: tuple[str, ...] = ()  # ISO 639-1; others are left out; empty takes all, and identifies none
    rules: Rules | None = Rules()  # None takes documents of any quality
    repair: bool = True
    boilerplate: bool = True  # short lines that are notices are left out
    exact: bool = True  # leave out equal documents
    near: bool = True  # leave out those that are nearly equal
    similarity: float = 0.8  # Jaccard, of runs of five words, from which on two are nearly equal
    personal: bool = True  # replace personal data
    evaluation: tuple[str, ...] = ()  # files whose texts the documents may not hold
    validation: float = 0.01  # shares of the documents
    test: float = 0.01
    tokenizer: TokenizerSpec = TokenizerSpec()
    processes: int = 0  # 0 is one for each core
    piece_bytes: int = PIECE_BYTES  # of input, cleaned in one go
    memory_bytes: int = 512 * _MIB  # for finding duplicates

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("`inputs` should name at least one file or folder")
        if not self.out:
            raise ValueError("`out` should name the folder that is to be made")
        if self.documents not in DOCUMENTS:
            raise ValueError(f"`documents` should be one of {', '.join(DOCUMENTS)}")
        if not LEAST_SIMILARITY <= self.similarity <= 1:
            raise ValueError(f"`similarity` should be from {LEAST_SIMILARITY} to 1: below, too few would be found")
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` should be shares that leave some documents for training")
        if not 0 <= self.processes <= 1024:
            raise ValueError("`processes` should be from 0 to 1024")
        if self.piece_bytes < 4096:
            raise ValueError("`piece_bytes` should be at least 4096")
        if self.memory_bytes < _MIB:
            raise ValueError("`memory_bytes` should be at least a megabyte")


class Prepared(Struct, frozen=True, kw_only=True):
    """What a preparation gives."""

    dataset: str  # its id
    folder: str
    documents: int
    tokens: int


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe of TOML or JSON: fields of `DataSpec`. Raises `OperatorError` for what cannot be read as such."""
    try:
        content = path.read_bytes()
        return dict(msgspec.json.decode(content) if path.suffix == ".json" else tomllib.loads(content.decode()))
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise OperatorError(f"{path} is no recipe: {error}") from None


def spec_of(values: dict[str, Any]) -> DataSpec:
    """Raises `OperatorError` that names what is wrong."""
    try:
        return msgspec.convert(values, DataSpec)
    except msgspec.ValidationError as error:
        raise OperatorError(f"the recipe is not valid: {error}") from None
