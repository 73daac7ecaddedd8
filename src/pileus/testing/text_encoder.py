"""Texts to ids without a model: one token per byte, between two special ones."""

from collections.abc import Sequence

from pileus.core.records import Encoding, Frame, Task

START, END = 256, 257
_VOCABULARY = 258
FAKE_ENCODING = Encoding(
    architecture="fake",
    task=Task.EMBED,
    hidden_size=16,
    max_length=512,
    vocab_size=_VOCABULARY,
    layers=2,
    labels=("calm", "angry", "glad"),
    activation="softmax",
)


class ByteTextEncoder:
    """Meets `core.ports.TextEncoder`."""

    def __init__(self, encoding: Encoding = FAKE_ENCODING) -> None:
        self.encoding = encoding

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[START, *text.encode(), END] for text in texts]

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[tuple[list[int], int]]:
        begin = [START, *first.encode(), END]
        return [([*begin, *second.encode(), END], len(begin)) for second in seconds]

    def shorten(self, ids: Sequence[int], length: int) -> list[int]:
        return list(ids) if len(ids) <= length else [*ids[: length - 1], ids[-1]]

    def frame(self, first: str | None = None) -> Frame:
        return Frame((START,) if first is None else (START, *first.encode(), END), (END,))
