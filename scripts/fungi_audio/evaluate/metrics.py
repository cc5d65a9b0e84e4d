"""Scores of votes against the truth: votes float `[n, classes]`, targets bool `[n, classes]`."""

from collections.abc import Callable, Mapping

import numpy as np

Metrics = Mapping[str, Callable[[np.ndarray, np.ndarray], float]]


def accuracy(votes: np.ndarray, targets: np.ndarray) -> float:
    """Share of the rows whose first maximum is the class."""
    return float(_hits(votes, targets).mean())


def per_class_accuracy(votes: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the classes' own accuracies, over the classes that occur."""
    clips = targets.sum(axis=0)
    right = (targets & _hits(votes, targets)[:, None]).sum(axis=0)
    return float(np.mean(right[clips > 0] / clips[clips > 0]))


def mean_average_precision(votes: np.ndarray, targets: np.ndarray) -> float:
    """Mean over classes of the average precision; only classes that some rows have and some lack count."""
    from sklearn.metrics import average_precision_score  # slow to import, seldom needed

    kept = _graded(targets)
    return float(average_precision_score(targets[:, kept], votes[:, kept])) if kept.any() else float("nan")


def macro_auc(votes: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the same classes of the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    kept = _graded(targets)
    return float(roc_auc_score(targets[:, kept], votes[:, kept])) if kept.any() else float("nan")


SINGLE_LABEL: Metrics = {"accuracy": accuracy, "per_class_accuracy": per_class_accuracy}
MULTI_LABEL: Metrics = {"mAP": mean_average_precision, "auc": macro_auc}


def _hits(votes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return targets[np.arange(len(votes)), votes.argmax(axis=1)]


def _graded(targets: np.ndarray) -> np.ndarray:
    return np.logical_and(targets.any(axis=0), ~targets.all(axis=0))
