"""Scores of predictions against the truth."""

import numpy as np


def single_label(votes: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy, and its mean over the classes that occur.

    Args:
        votes: float `[n, classes]`; the first maximum of a row is the prediction.
        targets: bool `[n, classes]`, one True a row.
    """
    hit = targets[np.arange(len(votes)), votes.argmax(axis=1)]
    clips = targets.sum(axis=0)
    of_class = (targets & hit[:, None]).sum(axis=0)[clips > 0] / clips[clips > 0]
    return {"accuracy": float(hit.mean()), "per_class_accuracy": float(of_class.mean())}


def multi_label(votes: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Mean average precision and area under the ROC curve, over the classes that some clips have and some lack."""
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import, seldom needed

    kept = targets.any(axis=0) & ~targets.all(axis=0)
    if not kept.any():
        return {"mAP": float("nan"), "auc": float("nan")}
    truth, votes = targets[:, kept], votes[:, kept]
    return {
        "mAP": float(average_precision_score(truth, votes, average="macro")),
        "auc": float(roc_auc_score(truth, votes, average="macro")),
    }
