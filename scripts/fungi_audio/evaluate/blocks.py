"""From feature blocks to the inputs of a classifier: normalise, concatenate, reduce."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.linalg

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 4096


def concatenate(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Every block L2-normalised a row, side by side in the order given.

    Args:
        blocks: float32 `[n, d_i]`. A row of zeros stays zero.

    Returns:
        float32 `[n, sum of d_i]`.
    """
    joined = np.empty((len(blocks[0]), sum(block.shape[1] for block in blocks)), dtype=np.float32)
    start = 0
    for block in blocks:
        norm = np.linalg.norm(block, axis=1, keepdims=True)
        end = start + block.shape[1]
        np.divide(block, np.where(norm > 0, norm, 1), out=joined[:, start:end])
        start = end
    return joined


@dataclass(frozen=True)
class Pca:
    """Principal components without whitening: `(x - mean) @ axes`.

    Attributes:
        mean: float32 `[width]`.
        axes: float32 `[width, d]`, orthonormal columns.
        variance: float64 `[d]`, falling.
    """

    mean: np.ndarray
    axes: np.ndarray
    variance: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 `[n, width]` -> float32 `[n, d]`."""
        return x @ self.axes - self.mean @ self.axes


def pca(x: np.ndarray, rows: np.ndarray, d: int) -> Pca | None:
    """The first `d` principal components of some rows.

    Args:
        x: float32 `[n, width]`.
        rows: indices of the rows to fit on.
        d: components to keep; 0 keeps everything.

    Returns:
        None, with a warning in the log, where there is nothing to drop: `d` is not below the number of
        rows and columns.
    """
    if d == 0:
        return None
    if d >= min(len(rows), x.shape[1]):
        warn_once(f"PCA to {d} dimensions skipped: {len(rows)} training clips of {x.shape[1]} dimensions")
        return None
    mean = x[rows].mean(axis=0, dtype=np.float64)
    axes, values = principal_axes(x, rows, mean)
    return Pca(mean.astype(np.float32), axes[:, :d], values[:d] / (len(rows) - 1))


def principal_axes(x: np.ndarray, rows: np.ndarray, mean: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors and squared singular values of `x[rows] - mean`.

    From the eigenvectors of the smaller Gram matrix in float64, which is as accurate as a float32 SVD
    and several times as fast. Directions in which the rows do not vary are left out.

    Returns:
        Axes float32 `[width, r]`; squared singular values float64 `[r]`, falling.
    """
    n, width = len(rows), x.shape[1]
    if n <= width:
        centred = x[rows].astype(np.float64) - mean
        gram = centred @ centred.T
    else:
        gram = np.zeros((width, width))
        for start in range(0, n, ROWS_AT_ONCE):
            part = x[rows[start : start + ROWS_AT_ONCE]].astype(np.float64) - mean
            gram += part.T @ part
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    kept = values > values[-1] * max(gram.shape) * np.finfo(np.float64).eps
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    axes = centred.T @ (vectors / np.sqrt(values)) if n <= width else vectors
    return axes.astype(np.float32), values


@cache
def warn_once(message: str) -> None:
    """A warning in the log, the first time only (few-shot draws repeat the same one)."""
    logger.warning(message)
