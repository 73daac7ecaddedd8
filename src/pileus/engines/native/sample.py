"""The next token, without hidden state: a pure function of the logits, the parameters, the token history and one
random number that is itself a function of (seed, choice, position). So a sequence continues elsewhere exactly where it
stopped.

A random number u picks a token by the inverse of the cumulative distribution over tokens in order of probability. The
summary has the `TOP` most likely tokens and the normaliser; since these come first in that order, they decide the
draw exactly unless u falls beyond their mass or a filter reaches beyond them, and only then is the whole row read.
Beyond their mass, a second draw of the same counter picks among the rest.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, Protocol

import numpy as np
from msgspec import Struct as Record
from numpy.typing import NDArray

from pileus.core.records import SamplingParams, TokenLogprobs

# Below this temperature the most likely token is chosen: no other could have a probability that float32 can tell.
LEAST_TEMPERATURE = 1e-5

_COUNTER = Struct("<qqq")
_LEAST_LOG = -36.0  # what is less likely than e to this has no place in 53 random bits
_Floats = NDArray[np.float64]


class History(Record):
    """What a sequence has said so far, as the penalties see it."""

    prompt: frozenset[int]
    counts: dict[int, int]


class Draw(Record):
    """One token to choose: from which row, how, and for which place in which choice."""

    row: int
    params: SamplingParams
    choice: int
    position: int  # tokens of the choice before this one
    history: History | None = None  # None where the parameters have no penalty


class RowsLike(Protocol):
    """What sampling reads of `summary.Rows`."""

    logits: NDArray[np.float32]
    values: NDArray[np.float32]
    ids: NDArray[np.int32]
    log_normaliser: NDArray[np.float32]
    log_mass: NDArray[np.float32]  # of exp((logit - highest) / temperature)


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits, the same for the same counter."""
    digest = blake2b(_COUNTER.pack(seed, choice, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def penalises(params: SamplingParams) -> bool:
    """Whether the token history matters."""
    return params.presence_penalty != 0 or params.frequency_penalty != 0 or params.repetition_penalty != 1


def sample(rows: RowsLike, draws: Sequence[Draw]) -> list[int]:
    """One token per draw."""
    tokens = [0] * len(draws)
    plain: list[int] = []
    most_likely = rows.ids[:, 0].tolist()
    for index, draw in enumerate(draws):
        if draw.history is not None or draw.params.logit_bias:
            logits = _adjust(rows.logits[draw.row], draw.params, draw.history)
            tokens[index] = _choose(logits, draw)
        elif draw.params.temperature < LEAST_TEMPERATURE:
            tokens[index] = most_likely[draw.row]
        else:
            plain.append(index)
    if plain:
        for index, token in zip(plain, _sample_plain(rows, [draws[i] for i in plain]), strict=True):
            tokens[index] = token
    return tokens


def logprobs(rows: RowsLike, row: int, token: int, alternatives: int) -> TokenLogprobs:
    """Log probabilities under the model's own distribution, whatever the sampling parameters were."""
    normaliser = float(rows.log_normaliser[row])
    top = tuple(
        (int(other), float(value) - normaliser)
        for other, value in zip(rows.ids[row, :alternatives], rows.values[row, :alternatives], strict=True)
    )
    return TokenLogprobs(float(rows.logits[row, token]) - normaliser, top)


def _sample_plain(rows: RowsLike, draws: list[Draw]) -> Iterable[int]:
    """All draws at once over the graph's top tokens; those that these cannot decide one by one over the whole row."""
    which = [draw.row for draw in draws]
    probabilities, decided = _top_probabilities(rows, which, draws)
    cumulative = probabilities.cumsum(axis=1)
    mass = np.where(decided, cumulative[:, -1], 1.0)
    targets = mass * [uniform(draw.params.seed, draw.choice, draw.position) for draw in draws]
    places = (cumulative <= targets[:, None]).sum(axis=1)
    last = (probabilities > 0).sum(axis=1) - 1
    for index, (draw, place) in enumerate(zip(draws, places, strict=True)):
        if decided[index] or (_unfiltered(draw.params) and place < probabilities.shape[1]):
            yield int(rows.ids[draw.row, min(place, last[index])])
        elif _unfiltered(draw.params):
            yield _choose_beyond(rows, draw)
        else:
            yield _choose(rows.logits[draw.row].astype(np.float64), draw)


def _top_probabilities(rows: RowsLike, which: list[int], draws: list[Draw]) -> tuple[_Floats, NDArray[np.bool_]]:
    """Probabilities [D, K] with what the filters drop set to 0, and whether the filters end within the K."""
    params = [draw.params for draw in draws]
    inverse = np.array([1.0 / p.temperature for p in params])[:, None]
    values = rows.values[which].astype(np.float64)
    scaled = (values - values[:, :1]) * inverse
    probabilities = np.exp(scaled - rows.log_mass[which].astype(np.float64)[:, None])
    width = probabilities.shape[1]
    if all(_unfiltered(p) for p in params):
        return probabilities, np.full(len(draws), width == rows.logits.shape[1])
    top_k = np.array([p.top_k or rows.logits.shape[1] for p in params])[:, None]
    kept = np.arange(width) < top_k
    kept &= probabilities >= probabilities[:, :1] * np.array([p.min_p for p in params])[:, None]
    before = probabilities.cumsum(axis=1) - probabilities
    total = np.where(top_k[:, 0] <= width, (probabilities * (np.arange(width) < top_k)).sum(axis=1), 1.0)
    top_p = np.array([p.top_p for p in params])
    kept &= (before < (top_p * total)[:, None]) | (top_p == 1)[:, None]
    kept[:, 0] = True
    ends_within = ~kept[:, -1] | (top_k[:, 0] <= width) | (width == rows.logits.shape[1])
    decidable = (top_k[:, 0] <= width) | (top_k[:, 0] >= rows.logits.shape[1])
    return probabilities * kept, ends_within & decidable


def _unfiltered(params: SamplingParams) -> bool:
    return params.top_k == 0 and params.top_p == 1 and params.min_p == 0


def _adjust(logits: NDArray[np.float32], params: SamplingParams, history: History | None) -> _Floats:
    """Penalties as in the OpenAI API (presence, frequency: over what was generated) and in CTRL, arXiv:1909.05858
    (repetition: over prompt and generated), then the bias."""
    adjusted = logits.astype(np.float64)
    if history is not None:
        if params.repetition_penalty != 1:
            seen = _indices(history.prompt | history.counts.keys())
            values = adjusted[seen]
            adjusted[seen] = np.where(
                values > 0, values / params.repetition_penalty, values * params.repetition_penalty
            )
        said = _indices(history.counts)
        counts = np.fromiter(history.counts.values(), np.float64, len(history.counts))
        adjusted[said] -= params.frequency_penalty * counts + params.presence_penalty
    for token, bias in params.logit_bias.items():
        adjusted[token] += bias
    return adjusted


def _indices(tokens: Any) -> NDArray[np.int64]:
    return np.fromiter(tokens, np.int64, len(tokens))


def _choose_beyond(rows: RowsLike, draw: Draw) -> int:
    """A token from what is left when the top ones are taken out; the most likely one where nothing is."""
    highest = float(rows.values[draw.row, 0])
    scaled = (rows.logits[draw.row].astype(np.float64) - highest) / draw.params.temperature
    scaled[rows.ids[draw.row]] = -np.inf
    return _gumbel_max(scaled, draw) if scaled.max() > _LEAST_LOG else int(rows.ids[draw.row, 0])


def _gumbel_max(scaled: _Floats, draw: Draw) -> int:
    """A draw from softmax(scaled) by the largest of logit + Gumbel noise, each token's noise being its own.

    Among tens of thousands of unlikely tokens the cumulative distribution would let float32 noise, which differs
    between batches, decide between neighbours; here it must reach the distance between the two best.
    """
    digest = blake2b(_COUNTER.pack(draw.params.seed, draw.choice, draw.position), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    return int((scaled + generator.gumbel(size=len(scaled))).argmax())


def _choose(logits: _Floats, draw: Draw) -> int:
    """The same draw over a whole row, for any parameters."""
    params = draw.params
    if params.temperature < LEAST_TEMPERATURE:
        return int(logits.argmax())
    if _unfiltered(params):
        return _gumbel_max((logits - logits.max()) / params.temperature, draw)
    probabilities = np.exp((logits - logits.max()) / params.temperature)
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    kept = np.ones(len(ordered), dtype=np.bool_)
    if params.top_k:
        kept[params.top_k :] = False
    kept &= ordered >= ordered[0] * params.min_p
    if params.top_p < 1:
        before = ordered.cumsum() - ordered
        kept &= before < params.top_p * (ordered[: params.top_k].sum() if params.top_k else 1.0)
    kept[0] = True
    cumulative = (ordered * kept).cumsum()
    target = uniform(params.seed, draw.choice, draw.position) * cumulative[-1]
    place = int(np.searchsorted(cumulative, target, side="right"))
    return int(order[min(place, int(kept.nonzero()[0][-1]))])
