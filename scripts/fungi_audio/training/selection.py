"""From the test scores of fine-tuned folds to rows of the results table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..evaluate.metrics import MULTI_LABEL, SINGLE_LABEL
from ..evaluate.scores import PREDICTIONS, SCORES, as_json, predicted_names

RULES = {
    "validation": "best epoch on validation clips",
    "test": "best test epoch over folds (published rule; optimistic)",
    "average": "mean of the weights of the last epochs",
}


def choose(scores: Mapping[str, Mapping[int, np.ndarray]], targets: Mapping[str, np.ndarray], multilabel: bool) -> int:
    """The published rule: the epoch whose test metric, averaged over the folds, is best; the first of equals.

    Args:
        scores: fold to epoch to probabilities `[test, classes]`; every fold has the same epochs.
        targets: fold to bool `[test, classes]`.
    """
    metric = next(iter((MULTI_LABEL if multilabel else SINGLE_LABEL).values()))
    epochs = sorted(next(iter(scores.values())))
    means = [np.mean([metric(scores[fold][epoch], targets[fold]) for fold in scores]) for epoch in epochs]
    return epochs[int(np.argmax(means))]


def tables(
    scores: np.ndarray,
    targets: np.ndarray,
    clips: pd.DataFrame,
    classes: list[str],
    multilabel: bool,
    where: Mapping[str, Any],
    chosen: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and predictions of one fold, in the columns of the evaluation.

    Args:
        scores: float `[test, classes]`, probabilities.
        targets: bool `[test, classes]`.
        clips: the test clips (`clip_id`, `label`).
        classes: names of the classes.
        where: `dataset`, `backbone`, `features`, `protocol`, `fold`, `seed`, `n_train`, `settings` (JSON values).
        chosen: how the weights were chosen.
    """
    metrics = MULTI_LABEL if multilabel else SINGLE_LABEL
    common = {
        **where,
        "shots": 0,
        "n_test": len(scores),
        "chosen": as_json(chosen),
        "settings": as_json(where["settings"]),
    }
    rows = pd.DataFrame(
        [{**common, "metric": metric, "value": score(scores, targets)} for metric, score in metrics.items()]
    )
    predicted = predicted_names(scores, np.array(classes, dtype=object), multilabel)
    table = clips[["clip_id"]].assign(true=clips["label"], predicted=predicted)
    for key in ("fold", "protocol", "shots", "seed", "chosen"):
        table[key] = common[key]
    kinds = dict.fromkeys(("clip_id", "fold", "protocol", "chosen", "true", "predicted"), "category")
    return rows[SCORES], table[PREDICTIONS].astype(kinds | {"shots": "int32", "seed": "int32"})
