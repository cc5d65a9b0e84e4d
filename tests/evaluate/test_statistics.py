"""Bootstrap intervals and McNemar's test against slow, direct computations."""

import numpy as np
import pytest
from scipy.stats import binom

from fungi_audio.evaluate.statistics import bootstrap, mcnemar


def differences(seed: int, gain: float, folds: int = 3, clips: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.random((folds, clips)) < 0.6 + gain
    second = rng.random((folds, clips)) < 0.6
    return list(first.astype(float) - second)


def test_interval_equals_that_of_resampled_clips() -> None:
    folds = [*differences(0, 0.15), np.array([0.5, -0.25, 0.0, 1.0])]
    value, low, high = bootstrap(folds, seed=1, resamples=40_000)
    rng = np.random.default_rng(2)
    means = np.mean([rng.choice(fold, size=(40_000, len(fold))).mean(axis=1) for fold in folds], axis=0)
    assert value == pytest.approx(np.mean([fold.mean() for fold in folds]))
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5]), atol=0.006)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        _, low, high = bootstrap(differences(seed, 0.1), seed, resamples=1000)
        covered += low <= 0.1 <= high
    assert 0.90 < covered / 300 < 0.98


def test_same_seed_same_interval() -> None:
    folds = differences(3, 0.05)
    assert bootstrap(folds, seed=7) == bootstrap(folds, seed=7)


def test_equal_classifiers_have_no_difference() -> None:
    assert bootstrap([np.zeros(20)], seed=0) == (0, 0, 0)
    assert mcnemar([np.zeros(20)]) == 1


def test_mcnemar_is_the_binomial_tail() -> None:
    folds = [np.array([1, 1, 1, 0, 0]), np.array([1, 1, 1, 1, -1, 0])]
    assert mcnemar(folds) == pytest.approx(2 * binom.cdf(1, 8, 0.5))


def test_mcnemar_needs_single_decisions() -> None:
    assert np.isnan(mcnemar([np.array([1, 0.5, 0])]))


def test_a_bound_of_zero_is_zero() -> None:
    """The verdict asks on which side of 0 a bound lies: rounding errors must not answer."""
    rng = np.random.default_rng(0)
    bounds = []
    for seed in range(100):
        folds = [rng.choice([-1.0, 0, 1], size=30, p=[0.08, 0.74, 0.18]) for _ in range(3)]
        bounds += bootstrap(folds, seed, resamples=2000)[1:]
    assert bounds.count(0) > 1
    assert not any(0 < abs(bound) < 1e-9 for bound in bounds)
