"""Folds and splits: which rows train, validate and test."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import DataError

SPLIT = "split"


class Split(NamedTuple):
    """Row indices, int64 and ascending, into the clip table."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def split(clips: pd.DataFrame, fold: str) -> Split:
    """Rows of one fold.

    Args:
        clips: table with the columns `fold` and `split`.
        fold: a fold number as text (test = that fold, train = all others, no validation), or
            ``"split"`` for the dataset's official split.

    Raises:
        DataError: the fold is not in the data, or it has no training or no test clips.
    """
    rows = _rows(clips, fold)
    if not len(rows.train):
        raise _empty("training", clips, fold)
    return rows


def held_out(clips: pd.DataFrame, fold: str) -> np.ndarray:
    """The test rows of one fold, for models that were trained on other data.

    Raises:
        DataError: it has no test clips.
    """
    return _rows(clips, fold).test


def _rows(clips: pd.DataFrame, fold: str) -> Split:
    if fold == SPLIT:
        parts = [np.flatnonzero(clips["split"] == name) for name in ("train", "valid", "test")]
    else:
        test = (clips["fold"] == int(fold)).to_numpy(dtype=bool, na_value=False)
        parts = [
            np.flatnonzero(~test & clips["fold"].notna().to_numpy()),
            np.array([], dtype=np.int64),
            np.flatnonzero(test),
        ]
    rows = Split(*parts)
    if not len(rows.test):
        raise _empty("test", clips, fold)
    return rows


def _empty(part: str, clips: pd.DataFrame, fold: str) -> DataError:
    present = sorted(clips["fold"].dropna().unique().tolist()) or sorted(clips["split"].dropna().unique().tolist())
    return DataError(f"fold {fold} has no {part} clips; the data has {present}. Correct `folds:` of the dataset")
