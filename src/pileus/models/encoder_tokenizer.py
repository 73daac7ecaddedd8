"""Texts to the ids that an encoder takes, on Hugging Face `tokenizers`: the adapter of the `TextEncoder` port.

Special tokens stand around a text, never in it: what looks like one in people's text stays text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer as HuggingFaceTokenizer

from pileus.core.records import Encoding, Frame
from pileus.models.artefact import TOKENIZER, read_encoding
from pileus.models.tokenizer_file import open_tokenizer

_PROBE: Final = "a"  # a text that is at least one token


def load_text_encoder(path: Path) -> "ModelTextEncoder":
    """From an artefact's folder. Raises `ModelRefused` where its tokenizer cannot be used."""
    return ModelTextEncoder(open_tokenizer(path / TOKENIZER), read_encoding(path))


class ModelTextEncoder:
    """One model's. Made once per deployment; safe to share between threads, since it does not change."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, encoding: Encoding) -> None:
        self.encoding = encoding
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[tuple[list[int], int]]:
        found = self._tokenizer.encode_batch_fast([(first, second) for second in seconds])
        return [(pair.ids, _second_at(pair.type_ids)) for pair in found]

    def shorten(self, ids: Sequence[int], length: int) -> list[int]:
        return list(ids) if len(ids) <= length else [*ids[: length - 1], ids[-1]]

    def frame(self, first: str | None = None) -> Frame:
        found = self._tokenizer.encode(_PROBE) if first is None else self._tokenizer.encode(first, _PROBE)
        own = [at for at, text in enumerate(found.sequence_ids) if text == (0 if first is None else 1)]
        begins, ends = (own[0], own[-1] + 1) if own else (len(found.ids) - 1, len(found.ids) - 1)
        return Frame(tuple(found.ids[:begins]), tuple(found.ids[ends:]))


def _second_at(type_ids: list[int]) -> int:
    return type_ids.index(1) if 1 in type_ids else 0
