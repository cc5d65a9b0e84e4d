"""k nearest neighbours: one search, then votes for every k."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import ConfigError

DISTANCES_AT_ONCE = 2**24


def check_k(ks: Sequence[int], n_train: int) -> None:
    """Refuse more neighbours than there are training clips.

    Raises:
        ConfigError: naming the values of k and the number of clips.
    """
    too_large = [k for k in ks if k > n_train]
    if too_large:
        raise ConfigError(
            f"evaluation.knn.k asks for {', '.join(map(str, too_large))} neighbours, but the fold has only "
            f"{n_train} training clips. Choose k of at most {n_train}"
        )


def neighbours(train: np.ndarray, test: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest training rows of every test row, exactly.

    Args:
        train: float32 `[n, d]`.
        test: float32 `[m, d]`.
        k: at most n.

    Returns:
        Squared Euclidean distances float64 `[m, k]`, rising, and row indices int64 `[m, k]`; among equal
        distances the smaller index comes first.
    """
    reference = train.astype(np.float64)
    length = (reference**2).sum(axis=1)
    distances, indices = np.empty((len(test), k)), np.empty((len(test), k), dtype=np.int64)
    step = max(1, DISTANCES_AT_ONCE // len(train))
    for start in range(0, len(test), step):
        query = test[start : start + step].astype(np.float64)
        d = query @ reference.T
        d *= -2
        d += length
        nearest = np.argpartition(d, k - 1, axis=1)[:, :k] if k < len(train) else np.arange(k)[None].repeat(len(d), 0)
        nearest.sort(axis=1)
        order = np.take_along_axis(d, nearest, axis=1).argsort(axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        indices[start : start + step] = nearest
        distances[start : start + step] = np.take_along_axis(d, nearest, axis=1) + (query**2).sum(axis=1, keepdims=True)
    return np.maximum(distances, 0), indices


def uniform_votes(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, ks: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Share of the k nearest (Euclidean) neighbours in every class, for each k.

    Args:
        train, test: float32 `[n, d]`, `[m, d]`.
        targets: bool `[n, classes]`, the classes of the training rows.
        ks: numbers of neighbours, each at most n.

    Yields:
        k and the shares, float64 `[m, classes]`. The first maximum of a row is the prediction: ties go to
        the smaller class.
    """
    _, indices = neighbours(train, test, max(ks))
    yield from _votes(np.ones(indices.shape), indices, targets, ks)


def cosine_votes(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Votes of the k most similar (cosine) rows, each weighted by exp(similarity / temperature).

    As in Z. Wu et al., "Unsupervised feature learning via non-parametric instance discrimination"
    (2018), section 3.4. Arguments and result as in `uniform_votes`. Weights are relative to the most similar
    row's, so that a low temperature does not overflow.
    """
    distances, indices = neighbours(_unit(train), _unit(test), max(ks))
    yield from _votes(np.exp((distances[:, :1] - distances) / 2 / temperature), indices, targets, ks)


def _votes(
    weights: np.ndarray, indices: np.ndarray, targets: np.ndarray, ks: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    votes = np.zeros((len(indices), targets.shape[1]))
    total = np.zeros((len(indices), 1))
    for j in range(max(ks)):
        weight = weights[:, j, None]
        votes += weight * targets[indices[:, j]]
        total += weight
        if j + 1 in ks:
            yield j + 1, votes / total


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)
