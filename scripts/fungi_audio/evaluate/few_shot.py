"""Seeded draws of a few training clips a class."""

import numpy as np


def draw(targets: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of one draw, ascending: `shots` random rows of every class, all of a class that has fewer.

    Args:
        targets: bool `[n, classes]`; a row of several classes counts for each of them.
        shots: rows a class.
        seed: of the draw, from `seeds.named_seed`.
    """
    rng = np.random.default_rng(seed)
    return np.unique(np.concatenate([rng.permutation(np.flatnonzero(column))[:shots] for column in targets.T]))
