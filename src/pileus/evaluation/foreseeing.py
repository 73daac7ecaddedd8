"""Perplexity of texts, by an artefact's own tokenizer and graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.core.ports import Tokenizer
from pileus.evaluation.records import Foreseen, WindowSpec
from pileus.evaluation.statistics import Interval, bootstrap
from pileus.models.artefact import GENERATION
from pileus.models.perplexity import Foreseer, Losses, Windows
from pileus.models.progress import Progress

Loader = Callable[[Path], Tokenizer]  # of an artefact's folder

BLOCK: Final = 64  # tokens that are drawn together, since neighbours in a text are alike
_LN2: Final = float(np.log(2))


class Reading(Struct, frozen=True):
    """A text as one model read it."""

    ids: tuple[int, ...]
    losses: Losses  # nats of every token but the first
    ends: NDArray[np.int64]  # for each of these, the byte of the text behind it
    text_bytes: int


def read(load: Loader, folder: Path, text: str, windows: WindowSpec, progress: Progress) -> Reading:
    """Raises `ModelRefused` where the artefact cannot be computed, `ValueError` for a text that is too short."""
    if not (folder / GENERATION).is_file():
        raise ModelRefused(f"{folder.name} generates no text by itself, so it has no perplexity")
    tokenizer = load(folder)
    ids = tokenizer.encode(text)[: windows.most_tokens]
    lengths = [len(tokenizer.token_text(token)[1]) for token in ids]
    ends = np.cumsum(lengths, dtype=np.int64)
    cut = Windows(windows.length, windows.stride).within(tokenizer.context_length)
    losses = Foreseer(folder).losses(ids, cut, progress)
    return Reading(tuple(ids), losses, ends[1:], int(ends[-1]))


def foresee(load: Loader, folder: Path, path: Path, windows: WindowSpec, seed: int, progress: Progress) -> Foreseen:
    """One file's perplexity, with its interval by a bootstrap over blocks of tokens."""
    found = read(load, folder, read_text(path), windows, progress)
    table = np.stack([_block_sums(found.losses), _block_sums(np.ones_like(found.losses))], axis=1)
    mean = bootstrap(table, lambda sums: sums[:, 0] / sums[:, 1], seed=seed)
    return Foreseen(
        text=path.name,
        tokens=len(found.ids),
        perplexity=Interval(float(np.exp(mean.value)), float(np.exp(mean.low)), float(np.exp(mean.high))),
        bits_per_byte=float(found.losses.sum()) / _LN2 / found.text_bytes,
    )


def ratio(candidate: Reading, parent: Reading, seed: int) -> Interval:
    """The candidate's perplexity over the parent's, on the same stretches of text. Where the two cut the text into
    other tokens, perplexity is that of as many tokens as the parent has."""
    a, b, tokens = _stretches(candidate, parent)
    table = np.stack([a - b, tokens], axis=1)
    mean = bootstrap(table, lambda sums: sums[:, 0] / sums[:, 1], seed=seed)
    return Interval(float(np.exp(mean.value)), float(np.exp(mean.low)), float(np.exp(mean.high)))


def read_text(path: Path) -> str:
    """Raises `ValueError` where it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None


def _stretches(a: Reading, b: Reading) -> tuple[Losses, Losses, Losses]:
    """Sums of both readings' losses, and the parent's tokens, between bytes where every `BLOCK` tokens of the parent
    end."""
    bounds = b.ends[BLOCK - 1 :: BLOCK]
    if not len(bounds) or bounds[-1] < b.ends[-1]:
        bounds = np.append(bounds, max(a.ends[-1], b.ends[-1]))

    def sums(reading: Reading, values: Losses) -> Losses:
        """A token belongs to the stretch in which it ends."""
        places = np.searchsorted(bounds, reading.ends)
        found: Losses = np.bincount(places, weights=values, minlength=len(bounds)).astype(np.float64)
        return found

    return sums(a, a.losses), sums(b, b.losses), sums(b, np.ones_like(b.losses))


def _block_sums(values: Losses) -> Losses:
    sums: Losses = np.add.reduceat(values, np.arange(0, len(values), BLOCK))
    return sums
