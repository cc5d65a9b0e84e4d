"""The labelled clips of one fold, as fine-tuning and its scores read them."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..audio import open_cache
from ..datasets import folds
from ..errors import DataError
from ..evaluate.linear import holdout
from ..seeds import named_seed
from .finetune import Clips


def label_matrix(labels: pd.Series, classes: list[str], multilabel: bool) -> np.ndarray:
    """Which clip has which label: bool `[n, classes]`.

    Raises:
        DataError: a clip has no label, or one that is not among the classes.
    """
    number = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, text in enumerate(labels.fillna("").astype(str)):
        for name in text.split(";") if multilabel else [text]:
            if name not in number:
                what = f"has the label {name!r}, which is no class of the dataset" if name else "has no label"
                raise DataError(f"clip {row} of the table {what}; fine-tuning needs labelled clips")
            targets[row, number[name]] = True
    return targets


def fold_rows(
    table: pd.DataFrame, targets: np.ndarray, fold: str, selection: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, to validate on and to test on.

    Selection on validation clips takes the official validation split, or a seeded fifth of every class's
    training clips. The other rules validate on nothing and train on both.
    """
    train, valid, test = folds.split(table, fold)
    if selection != "validation":
        return np.sort(np.concatenate([train, valid])), valid[:0], test
    if not len(valid):
        kinds = np.unique(targets[train], axis=0, return_inverse=True)[1]
        fitted, held_out = holdout(kinds, named_seed(seed, "fine-tuning validation", fold))
        train, valid = train[fitted], train[held_out]
    return train, valid, test


def open_clips(
    table: pd.DataFrame,
    classes: list[str],
    fbank: str | Path,
    audio_root: str | Path,
    fold: str,
    statistics: tuple[float, float],
    multilabel: bool,
    selection: str,
    seed: int,
) -> Clips:
    """The clips of a table with their log-mel cache, labels and rows of a fold.

    Args:
        audio_root: folder that the table's `wav` paths lie in.
    """
    targets = label_matrix(table["label"], classes, multilabel)
    rows = fold_rows(table, targets, fold, selection, seed)
    wavs = [Path(audio_root) / wav for wav in table["wav"]]
    return Clips(open_cache(fbank), wavs, targets, *rows, statistics, multilabel)
