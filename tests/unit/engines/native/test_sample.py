"""Sampling: the right distribution, from no hidden state."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pileus.core.records import SamplingParams
from pileus.engines.native.sample import LEAST_TEMPERATURE, Draw, History, logprobs, sample, uniform

VOCABULARY = 300
TOP = 64


class Rows:
    """What the graph would hand up for these logits."""

    def __init__(self, logits: NDArray[np.float32], temperature: float = 1.0) -> None:
        self.logits = logits
        order = np.argsort(-logits, axis=1)[:, :TOP]
        self.ids = order.astype(np.int32)
        self.values = np.take_along_axis(logits, order, axis=1)
        self.log_normaliser = np.log(np.exp(logits).sum(axis=1))
        below = (logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
        self.log_mass = np.log(np.exp(below * np.float32(1 / temperature)).sum(axis=1))


def logits(sharpness: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(7).normal(size=(1, VOCABULARY)) * sharpness).astype(np.float32)


def expected(params: SamplingParams, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The definition, written down once more in the plainest way: temperature, top-k, top-p, min-p."""
    probabilities = np.exp(values[0].astype(np.float64) / params.temperature)
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    kept = order[: params.top_k or VOCABULARY]
    mass = probabilities[kept].sum()
    running, within = 0.0, []
    for token in kept:
        if running >= params.top_p * mass and params.top_p < 1:
            break
        running += probabilities[token]
        within.append(token)
    within = [token for token in within if probabilities[token] >= params.min_p * probabilities[order[0]]]
    result = np.zeros(VOCABULARY)
    result[within] = probabilities[within]
    return result / result.sum()


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 10},
        {"top_k": 100},
        {"top_p": 0.5},
        {"top_p": 0.99},
        {"min_p": 0.05},
        {"top_k": 40, "top_p": 0.8},
        {"top_k": 200, "top_p": 0.9, "min_p": 0.01, "temperature": 1.3},
    ],
    ids=str,
)
def test_draws_follow_the_filtered_distribution(wishes: dict[str, float], sharpness: float) -> None:
    params = SamplingParams(max_tokens=1, seed=11, **wishes)  # type: ignore[arg-type]
    values = logits(sharpness)
    rows, draws = Rows(values, params.temperature), 20_000
    tokens = [
        token
        for start in range(0, draws, 100)
        for token in sample(rows, [Draw(0, params, 0, position) for position in range(start, start + 100)])
    ]
    wanted = expected(params, values) * draws
    seen = np.bincount(tokens, minlength=VOCABULARY)
    assert not seen[wanted == 0].any()
    common = wanted >= 5
    observed = np.append(seen[common], seen[~common].sum())
    theory = np.append(wanted[common], wanted[~common].sum())
    if theory[-1] == 0:
        observed, theory = observed[:-1], theory[:-1]
    if len(theory) > 1:
        assert stats.chisquare(observed, theory).pvalue > 1e-3


@pytest.mark.parametrize(
    "wishes", [{}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"logit_bias": {0: 0.0}}], ids=str
)
@pytest.mark.parametrize("temperature", [1e-3, 1e-4, 1e-5, 1e-7, 1e-30, 1e-300])
def test_a_temperature_near_zero_draws_the_most_likely_token(temperature: float, wishes: dict[str, Any]) -> None:
    values = logits(3.0) + 20
    params = SamplingParams(max_tokens=1, seed=11, temperature=temperature, **wishes)
    rows = Rows(values, max(temperature, LEAST_TEMPERATURE))
    tokens = sample(rows, [Draw(0, params, 0, position) for position in range(2000)])
    assert set(tokens) == {int(values[0].argmax())}


def test_draws_with_a_bias_follow_the_biased_distribution() -> None:
    params = SamplingParams(max_tokens=1, seed=5, logit_bias={3: 2.0})
    values = logits()
    biased = values.copy()
    biased[0, 3] += 2.0
    wanted = expected(SamplingParams(max_tokens=1, seed=5), biased) * 20_000
    tokens = [sample(Rows(values), [Draw(0, params, 0, position)])[0] for position in range(20_000)]
    seen = np.bincount(tokens, minlength=VOCABULARY)
    common = wanted >= 5
    observed, theory = np.append(seen[common], seen[~common].sum()), np.append(wanted[common], wanted[~common].sum())
    assert stats.chisquare(observed, theory).pvalue > 1e-3


def test_random_numbers_are_uniform_and_a_function_of_their_counter() -> None:
    numbers = [uniform(5, 0, position) for position in range(20_000)]
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert numbers[17] == uniform(5, 0, 17)
    assert len({uniform(5, 0, 1), uniform(6, 0, 1), uniform(5, 1, 1), uniform(5, 0, 2)}) == 4


def test_neighbours_in_the_batch_change_nothing() -> None:
    many = np.random.default_rng(1).normal(size=(8, VOCABULARY)).astype(np.float32)
    draws = [Draw(row, SamplingParams(max_tokens=1, seed=row, top_p=0.9), 0, row) for row in range(8)]
    together = sample(Rows(many), draws)
    for draw in draws:
        alone = Draw(0, draw.params, draw.choice, draw.position)
        assert sample(Rows(many[draw.row : draw.row + 1]), [alone]) == [together[draw.row]]


def test_greedy_takes_the_most_likely() -> None:
    values = logits()
    assert sample(Rows(values), [Draw(0, SamplingParams(max_tokens=1, seed=0, temperature=0), 0, 0)]) == [
        values.argmax()
    ]


def greedy(values: NDArray[np.float32], history: History | None = None, **wishes: object) -> int:
    params = SamplingParams(max_tokens=1, seed=0, temperature=0, **wishes)  # type: ignore[arg-type]
    return sample(Rows(values), [Draw(0, params, 0, 0, history)])[0]


def test_bias_lifts_and_bans() -> None:
    values = logits()
    best = int(values.argmax())
    assert greedy(values, logit_bias={3: 100.0}) == 3
    assert greedy(values, logit_bias={best: -100.0}) != best


def test_penalties_count_what_was_generated_and_repetition_also_the_prompt() -> None:
    values = np.full((1, VOCABULARY), -5.0, np.float32)
    values[0, :3] = (3.0, 2.5, 2.0)
    assert greedy(values, History(frozenset(), {0: 1}), presence_penalty=0.6) == 1
    assert greedy(values, History(frozenset(), {0: 1, 1: 3}), frequency_penalty=0.4) == 0
    assert greedy(values, History(frozenset(), {0: 4, 1: 1}), frequency_penalty=0.4) == 1
    assert greedy(values, History(frozenset({0}), {1: 1}), repetition_penalty=2.0) == 2


def test_logprobs_are_the_models_own() -> None:
    values = logits()
    entry = logprobs(Rows(values), 0, 9, 5)
    probabilities = np.exp(values[0]) / np.exp(values[0]).sum()
    assert entry.logprob == pytest.approx(np.log(probabilities[9]), abs=1e-5)
    assert [token for token, _ in entry.top] == list(np.argsort(-values[0])[:5])
    assert entry.top[0][1] == pytest.approx(np.log(probabilities.max()), abs=1e-5)
