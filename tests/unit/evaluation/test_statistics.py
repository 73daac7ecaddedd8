import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pileus.evaluation.statistics import (
    Interval,
    Table,
    bootstrap,
    is_non_inferior,
    mcnemar,
    mean_score,
    paired_bootstrap,
    permutation_test,
)


def table(values: "list[float] | np.ndarray") -> Table:
    return np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    found = bootstrap(table(values), mean_score)
    error = values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error * 1.96)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error * 1.96)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    intervals = [bootstrap(table(random.random(60)), mean_score, draws=400, seed=k) for k in range(200)]
    held = sum(found.low <= 0.5 <= found.high for found in intervals)
    assert 178 <= held <= 200


def test_the_same_seed_gives_the_same_interval_and_another_gives_another() -> None:
    values = table(list(range(30)))
    assert bootstrap(values, mean_score, seed=4) == bootstrap(values, mean_score, seed=4)
    assert bootstrap(values, mean_score, seed=4) != bootstrap(values, mean_score, seed=5)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    random = np.random.default_rng(3)
    hard = random.normal(0, 5, 200)  # how hard the items are, for both alike
    a, b = table(hard + 0.5 + random.normal(0, 0.2, 200)), table(hard)
    paired = paired_bootstrap(a, b, mean_score)
    assert 0.4 < paired.low < paired.value < paired.high < 0.6
    assert bootstrap(a, mean_score).low < bootstrap(b, mean_score).high


def test_a_score_of_sums_is_resampled_as_a_whole() -> None:
    ratio = paired_bootstrap(
        np.array([[8.0, 10.0], [0.0, 90.0]] * 20), np.array([[1.0, 10.0], [0.0, 90.0]] * 20), mean_score
    )
    assert ratio.value == pytest.approx(0.08 - 0.01)  # of the sums; the mean of ratios would be 0.35


def test_permutation_is_near_one_for_the_same_answers_and_small_for_others() -> None:
    a, b = table([1.0] * 40), table([0.0] * 20 + [1.0] * 20)
    assert permutation_test(a, a, mean_score) == 1.0
    assert permutation_test(a, b, mean_score) == pytest.approx(1 / 2001)
    assert permutation_test(a[:3], table([0.0, 1.0, 1.0]), mean_score) == 1.0  # one coin says nothing


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_mcnemar_is_the_exact_sign_test_of_the_discordant_pairs(only_a: int, only_b: int, both: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * both, dtype=bool)
    b = np.array([False] * only_a + [True] * only_b + [True] * both, dtype=bool)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


def test_not_worse_needs_confidence_not_only_a_good_mean() -> None:
    assert is_non_inferior(Interval(-0.01, -0.019, 0.0), 0.02)
    assert not is_non_inferior(Interval(0.05, -0.021, 0.12), 0.02)
    assert not is_non_inferior(Interval(float("nan"), float("nan"), float("nan")), 0.02)


def test_other_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same items"):
        paired_bootstrap(table([1.0]), table([1.0, 2.0]), mean_score)
    with pytest.raises(ValueError, match="no items"):
        bootstrap(np.empty((0, 2)), mean_score)
