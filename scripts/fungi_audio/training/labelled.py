"""The labelled clips of one fold, as fine-tuning and its scores read them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..datasets import folds, labels
from ..errors import DataError
from ..evaluate.linear import holdout, strata
from ..frontends.cache import open_array
from ..seeds import named_seed
from .finetune import Clips


def fold_rows(
    table: pd.DataFrame, targets: np.ndarray, fold: str, selection: str, seed: int, multilabel: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, to validate on and to test on.

    Selection on validation clips takes the official validation split, or a seeded fifth of the training
    clips: of every class, or with several labels a clip of all. The other rules validate on nothing and
    train on both.

    Raises:
        DataError: the clips that the epoch is chosen on are none, or all alike in every label, so that the
            metric is not defined.
    """
    train, valid, test = folds.split(table, fold)
    if selection != "validation":
        train, valid = np.sort(np.concatenate([train, valid])), valid[:0]
    elif not len(valid):
        kinds = strata(targets[train], multilabel)
        fitted, held_out = holdout(kinds, named_seed(seed, "fine-tuning validation", fold))
        train, valid = train[fitted], train[held_out]
    judges = {"validation": valid, "test": test, "average": None}[selection]
    if judges is not None:
        _check_judges(targets[judges], f"fold {fold}, selection: {selection}", multilabel)
    return train, valid, test


def _check_judges(targets: np.ndarray, where: str, multilabel: bool) -> None:
    if not len(targets):
        raise DataError(
            f"{where}: every class has one training clip, so none can be held out to choose the epoch on. Add clips, "
            "or set selection: average"
        )
    if multilabel and not (targets.any(axis=0) & ~targets.all(axis=0)).any():
        raise DataError(
            f"{where}: there is no label that some and not all of the {len(targets)} clips have that the epoch is "
            "chosen on, so mAP is not defined. Add clips, or set selection: average"
        )


@dataclass(frozen=True)
class Labelled:
    """Where the labelled clips of one fold lie.

    Attributes:
        table: the clip table.
        classes: names, in the order of the outputs.
        fbank: log-mel cache of the table's rows.
        audio_root: folder that the table's `wav` paths lie in.
        statistics: mean and standard deviation of the normalisation.
    """

    table: pd.DataFrame
    classes: list[str]
    fbank: str | Path
    audio_root: str | Path
    fold: str
    statistics: tuple[float, float]
    multilabel: bool

    def open(self, selection: str, seed: int) -> Clips:
        """The clips with their log-mels and rows, for a rule of selection.

        Raises:
            DataError: a clip without a known label, or no clips to choose the epoch on.
        """
        targets = labels.read(self.table, self.multilabel, self.classes).clip
        rows = fold_rows(self.table, targets, self.fold, selection, seed, self.multilabel)
        wavs = [Path(self.audio_root) / wav for wav in self.table["wav"]]
        return Clips(open_array(self.fbank), wavs, targets, *rows, self.statistics, self.multilabel)
