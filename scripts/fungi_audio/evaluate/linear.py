"""The linear probe: logistic regression without intercept, its penalty chosen on validation clips.

Minimises mean cross-entropy + l2/2 ||W||^2 over the training clips, W of shape `[d, classes]`: softmax
cross-entropy for one label a clip, the sum of the classes' binary cross-entropies for several.

The whole path of penalties is solved from the largest to the smallest, each start warm. Two exact
changes of variables make L-BFGS fast: W lies in the row space of X, so the problem is solved on X's
principal axes (few clips: few unknowns); and there the Hessian is close to diagonal, so the unknowns are
scaled by the inverse square root of its estimate at the start.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.special
from scipy.optimize import minimize
from scipy.special import expit

from .blocks import principal_axes, warn_once

TOLERANCE = 1e-5
ITERATIONS = 500

Objective = Callable[[np.ndarray, float], tuple[float, np.ndarray]]


def path(x: np.ndarray, targets: np.ndarray, penalties: Sequence[float], multilabel: bool = False) -> list[np.ndarray]:
    """Weights for every penalty.

    Args:
        x: float32 `[n, d]`.
        targets: bool `[n, classes]`.
        penalties: values of l2, in any order.
        multilabel: one-vs-rest instead of softmax.

    Returns:
        float32 `[d, classes]` for each penalty, in the order given.
    """
    axes, values = principal_axes(x, np.arange(len(x)))
    reduced = (x @ axes).astype(np.float64)
    objective = (one_vs_rest if multilabel else softmax)(reduced, targets)
    weights = np.zeros((len(values), targets.shape[1]))
    solved: dict[float, np.ndarray] = {}
    for l2 in sorted(set(penalties), reverse=True):
        z = reduced @ weights
        p = expit(z) if multilabel else scipy.special.softmax(z, axis=1)
        curvature = np.outer(values, np.mean(p * (1 - p), axis=0)) / len(x) + l2
        weights = _minimum(objective, l2, start=weights, scale=1 / np.sqrt(curvature))
        solved[l2] = axes @ weights.astype(np.float32)
    return [solved[l2] for l2 in penalties]


def _minimum(objective: Objective, l2: float, start: np.ndarray, scale: np.ndarray) -> np.ndarray:
    def scaled(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(v.reshape(start.shape) * scale, l2)
        return value, (gradient * scale).ravel()

    options = {"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 0}
    found = minimize(scaled, (start / scale).ravel(), jac=True, method="L-BFGS-B", options=options)
    if found.nit >= ITERATIONS:
        warn_once(f"linear probe: the optimum for l2 = {l2:.2g} is not reached after {ITERATIONS} iterations")
    return found.x.reshape(start.shape) * scale


def softmax(x: np.ndarray, targets: np.ndarray) -> Objective:
    """Mean softmax cross-entropy + l2/2 ||W||^2 and its gradient, as a function of W and l2.

    Args:
        x: float64 `[n, d]`.
        targets: bool `[n, classes]`, one True a row.
    """
    n, rows, labels = len(x), np.arange(len(x)), targets.argmax(axis=1)

    def objective(weights: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
        p = x @ weights
        p -= p.max(axis=1, keepdims=True)
        picked = p[rows, labels]
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - picked)
        p /= total
        p[rows, labels] -= 1
        return loss + l2 / 2 * np.sum(weights**2), x.T @ p / n + l2 * weights

    return objective


def one_vs_rest(x: np.ndarray, targets: np.ndarray) -> Objective:
    """Mean over clips of the summed binary cross-entropies + l2/2 ||W||^2; otherwise as `softmax`."""
    n, truth = len(x), targets.astype(np.float64)

    def objective(weights: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
        z = x @ weights
        loss = np.sum(np.logaddexp(0, z) - truth * z) / n
        z = expit(z) - truth
        return loss + l2 / 2 * np.sum(weights**2), x.T @ z / n + l2 * weights

    return objective


def strata(targets: np.ndarray, multilabel: bool) -> np.ndarray:
    """What a hold-out is stratified by, int `[n]`: the class; nothing where clips have several labels.

    Most combinations of labels occur once, and none of those would be held out.

    Args:
        targets: bool `[n, classes]`.
    """
    return np.zeros(len(targets), dtype=int) if multilabel else targets.argmax(axis=1)


def holdout(labels: np.ndarray, seed: int, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """A stratified split: the rows to fit on and the rows to validate on, ascending.

    Every class keeps at least one row to fit on; a class with one row is not validated on.

    Args:
        labels: int `[n]`.
        seed: of the draw within each class.
        share: of each class that goes to validation, rounded, at least one row.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(labels)), labels))
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    valid = [group[: min(len(group) - 1, max(1, round(share * len(group))))] for group in groups]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(valid)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
