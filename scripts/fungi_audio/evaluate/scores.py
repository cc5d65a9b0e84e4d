"""One combination of features on one fold: from feature files to scores and per-clip predictions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..datasets import folds, labels
from ..files import features
from ..files.whole import whole
from .blocks import concatenate
from .protocols import Outcome, Task, outcomes

SCORES = [
    "dataset", "backbone", "features", "protocol", "shots", "fold", "seed",
    "metric", "value", "n_train", "n_test", "chosen", "settings",
]  # fmt: skip
PREDICTIONS = ["clip_id", "fold", "protocol", "shots", "seed", "chosen", "true", "predicted"]


def evaluate(
    parts: Mapping[str, Sequence[str | Path]],
    fold: str,
    settings: Mapping[str, Any],
    seed: int,
    multilabel: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run every protocol.

    Args:
        parts: feature name -> its Parquet files, in the order of the combination.
        fold: a fold number as text, or ``"split"``.
        settings: the `evaluation` section of the config.
        seed: of the run; draws depend on it, the dataset, the fold and the number of shots.
        multilabel: clips may have several labels.

    Returns:
        Scores (columns `SCORES`; `seed` is the number of the few-shot draw) and predictions (columns
        `PREDICTIONS`, categorical).

    Raises:
        DataError: features that do not belong together, a clip without label, a fold without clips.
        ConfigError: k is larger than the training set.
    """
    read = {name: features.read(paths) for name, paths in parts.items()}
    clips = features.same_clips({name: table for name, (table, _, _) in read.items()})
    metadata = {name: meta for name, (_, _, meta) in read.items()}
    blocks = [block for _, block, _ in read.values()]
    del read
    width = min(block.shape[1] for block in blocks)
    x = concatenate(blocks)
    del blocks
    classes, targets, _ = labels.read(clips, multilabel)
    first = next(iter(metadata.values()))
    task = Task(
        x=x,
        targets=targets,
        split=folds.split(clips, fold),
        multilabel=multilabel,
        pca=width if settings["pca"] is None else settings["pca"],
        settings=settings,
        seed=seed,
        name=(first["dataset"], fold),
    )
    where = {
        "dataset": first["dataset"],
        "backbone": first["backbone"],
        "features": "+".join(parts),
        "settings": as_json({name: meta.get("settings", {}) for name, meta in metadata.items()}),
    }
    return _tables(task, clips, np.array(classes, dtype=object), fold, where)


def _tables(
    task: Task, clips: pd.DataFrame, classes: np.ndarray, fold: str, where: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = task.split.test
    scores, runs, predicted = [], [], []
    for outcome in outcomes(task):
        run = _run(outcome)
        row = {**where, **run, "fold": fold, "n_train": outcome.n_train, "n_test": len(test)}
        for name, metric in task.metrics.items():
            scores.append({**row, "metric": name, "value": metric(outcome.votes, task.targets[test])})
        runs.append(run)
        predicted.append(predicted_names(outcome.votes, classes, task.multilabel))
    columns: dict[str, Any] = {
        "clip_id": _repeat(clips["clip_id"].iloc[test], len(runs)),
        "fold": pd.Categorical([fold]).repeat(len(runs) * len(test)),
        "true": _repeat(clips["label"].iloc[test], len(runs)),
        "predicted": pd.Categorical(np.concatenate(predicted)),
    }
    for key in ("protocol", "shots", "seed", "chosen"):
        columns[key] = pd.Categorical([run[key] for run in runs]).repeat(len(test))
    predictions = pd.DataFrame(columns).astype({"shots": "int32", "seed": "int32"})
    return pd.DataFrame(scores)[SCORES], predictions[PREDICTIONS]


def _run(outcome: Outcome) -> dict[str, Any]:
    return {
        "protocol": outcome.protocol,
        "shots": outcome.shots,
        "seed": outcome.draw,
        "chosen": as_json(outcome.chosen),
    }


def predicted_names(votes: np.ndarray, classes: np.ndarray, multilabel: bool) -> np.ndarray:
    """The predicted label of every clip, object `[n]`; of several labels, those above one half joined with ``;``."""
    if multilabel:
        return np.array([labels.SEPARATOR.join(classes[row]) for row in votes > 0.5], dtype=object)
    return classes[votes.argmax(axis=1)]


def _repeat(values: pd.Series, times: int) -> Any:
    category = pd.Categorical(values)
    return category.take(np.tile(np.arange(len(category)), times))


def as_json(value: Any) -> str:
    """Hyper-parameters as the columns `chosen` and `settings` have them."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def write(scores: pd.DataFrame, predictions: pd.DataFrame, scores_path: str, predictions_path: str) -> None:
    """Write the CSV and the Parquet file, each whole or not at all."""
    with whole(predictions_path) as part:
        predictions.to_parquet(part, index=False)
    with whole(scores_path) as part:
        scores.to_csv(part, index=False, lineterminator="\n")
