"""Is a difference larger than chance: paired bootstrap over test clips, McNemar's exact test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
DECIMALS = 12  # of a resampled mean: where it is 0, rounding errors must not give it a sign


class Difference(NamedTuple):
    """A paired difference in mean accuracy over folds, and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(folds: Sequence[np.ndarray], seed: int, resamples: int = RESAMPLES) -> Difference:
    """The mean over folds of the mean difference, with a 95 % percentile interval.

    Test clips are resampled with replacement within each fold. As the differences take few distinct
    values, drawing clips is drawing the counts of these values from a multinomial distribution: the
    same distribution, thousands of times as fast. See B. Efron and R. Tibshirani, "An introduction to
    the bootstrap" (1993), chapters 8 and 13.

    Args:
        folds: for each fold the difference of every test clip, `[clips]` in [-1, 1]: 1 where only the
            first classifier is right, -1 where only the second is (a mean over few-shot draws may lie
            between).
        seed: of the resampling.
        resamples: how many.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for difference in folds:
        values, counts = np.unique(difference, return_counts=True)
        n = len(difference)
        means += rng.multinomial(n, counts / n, size=resamples) @ values / n
    means = np.round(means / len(folds), DECIMALS)
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(np.mean([np.mean(d) for d in folds])), float(low), float(high))


def mcnemar(folds: Sequence[np.ndarray]) -> float:
    """Two-sided p-value of McNemar's exact test on the clips of all folds.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages" (1947), with the binomial distribution in place of its approximation.

    Args:
        folds: as for `bootstrap`, every value -1, 0 or 1.

    Returns:
        NaN where a value is another one (means over draws are not single decisions).
    """
    difference = np.concatenate(list(folds))
    better, worse = int(np.sum(difference == 1)), int(np.sum(difference == -1))
    if better + worse != np.count_nonzero(difference):
        return float("nan")
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
