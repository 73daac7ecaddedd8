"""What a compressed model costs and what it still knows, all of it from the files that are served."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pileus.compression import texts
from pileus.compression.spec import Checks
from pileus.jobs.handler import JobFailed
from pileus.models.artefact import MODEL_BIN, TOKENIZER
from pileus.models.perplexity import SERVED, Foreseer, Interval, Losses, Windows
from pileus.models.progress import Progress

TOGETHER: Final = (1, 32)  # requests at once
_SPEED_COMMAND: Final = (sys.executable, "-m", "pileus", "speed")
_CHARACTERS_OF_A_TOKEN: Final = 12  # more than they have on average
_SPEED_TIMEOUT_S: Final = 900.0


class Speed(Struct, frozen=True):
    """What `pileus speed` prints."""

    tokens_per_s: dict[int, float]
    memory_bytes: int


class Seen(Struct, frozen=True):
    """What a model made of the texts: the loss of each token, and which pairs it got right."""

    losses: Losses
    right: NDArray[np.bool_]


class Examiner:
    """Texts as ids of one tokenizer, which parent and variants share, in windows that they can read."""

    def __init__(self, artefact: Path, checks: Checks, seed: int, context_length: int = 0) -> None:
        self._tokenizer = Tokenizer.from_file(str(artefact / TOKENIZER))
        self._checks = checks
        self.windows = Windows(checks.window, checks.stride).within(context_length)
        text = texts.read(checks.text) if checks.text else texts.written(checks.tokens * 6, seed + 1)
        tail = text[-checks.tokens * _CHARACTERS_OF_A_TOKEN :]  # a long file is not tokenised for its last words
        encoded = self._tokenizer.encode_batch([tail], add_special_tokens=False)[0]
        self._ids = encoded.ids[-checks.tokens :]
        self._begins = len(text) - len(tail) + encoded.offsets[-len(self._ids)][0]
        self._pairs = texts.pairs(checks.items, seed + 2)

    @property
    def tokens(self) -> int:
        """That the perplexity is of."""
        return len(self._ids)

    def unseen(self, file: str) -> str:
        """A file's text, without what the perplexity is of. Raises `JobFailed` where nothing is left."""
        text = texts.read(file)
        if not self._checks.text or not Path(file).samefile(self._checks.text):
            return text
        if not self._begins:
            raise JobFailed(f"{file} is too short to be learnt from and tested on: ask for fewer `tokens`")
        return text[: self._begins]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode_batch([text], add_special_tokens=False)[0].ids
        return ids

    def examine(self, artefact: Path, progress: Progress) -> Seen:
        """As the native engine serves it by default."""
        foreseer = Foreseer(artefact)
        losses = foreseer.losses(self._ids, self.windows, progress)
        right = []
        for number, pair in enumerate(self._pairs):
            progress("task", number, len(self._pairs))
            right.append(self._loss(foreseer, pair.right) < self._loss(foreseer, pair.wrong))
        return Seen(losses, np.array(right, np.bool_))

    def losses(self, artefact: Path, precision: str, progress: Progress) -> Losses:
        """With keys and values in that precision."""
        foreseer = Foreseer(artefact, {**SERVED, "KV_CACHE_PRECISION": precision})
        return foreseer.losses(self._ids, self.windows, progress)

    def _loss(self, foreseer: Foreseer, sentence: str) -> float:
        return float(foreseer.losses(self.encode(f"\n{sentence}")).sum())


def calibration(examiner: Examiner, file: str, sequences: int, length: int, seed: int) -> list[list[int]]:
    """Stretches of so many ids, from all over the file or from the generator. Fewer where the file is short."""
    text = examiner.unseen(file) if file else texts.written(sequences * length * 6, seed)
    ids = examiner.encode(text)
    count = min(sequences, max(len(ids) // length, 1))
    begins = np.linspace(0, max(len(ids) - length, 0), count).astype(int)
    return [ids[begin : begin + length] for begin in begins]


def speeds(folders: dict[str, Path], checks: Checks, progress: Progress) -> dict[str, list[Speed]]:
    """Of each artefact, in rounds, in which they take turns: what else the machine does meets all of them alike."""
    found: dict[str, list[Speed]] = {name: [] for name in folders}
    total = checks.speed_rounds * len(folders)
    for number in range(total):
        name = list(folders)[number % len(folders)]
        progress("speed", number, total)
        found[name].append(_speed(folders[name], checks.speed_tokens))
    return found


def size_of(artefact: Path, gguf: Path | None) -> int:
    """Bytes of the weights as they lie on the disk."""
    return (gguf or artefact / MODEL_BIN).stat().st_size


def middle(speeds_: Sequence[Speed], requests: int) -> tuple[float, float, float]:
    """Median, least and greatest tokens per second."""
    rates = [speed.tokens_per_s[requests] for speed in speeds_]
    return median(rates), min(rates), max(rates)


def share_interval(right: NDArray[np.bool_], parent: NDArray[np.bool_] | None = None) -> Interval | None:
    """Share of right answers (less the parent's, item by item) and its 95% interval by bootstrap; None of no items."""
    if not len(right):
        return None
    values = right.astype(float) if parent is None else right.astype(float) - parent
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def _speed(folder: Path, tokens: int) -> Speed:
    together = [word for requests in TOGETHER for word in ("--together", str(requests))]
    command = [*_SPEED_COMMAND, str(folder), "--tokens", str(tokens), *together, "--json"]
    done = subprocess.run(  # noqa: S603  # this program
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SPEED_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{folder.name} cannot be served: {done.stderr.decode(errors='replace').strip()[-300:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return msgspec.convert(said, Speed, strict=False)
