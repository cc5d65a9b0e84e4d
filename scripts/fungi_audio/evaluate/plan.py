"""Whether a dataset can be evaluated as asked, said before anything is extracted."""

from collections.abc import Sequence

import pandas as pd

from ..datasets import folds
from ..errors import ConfigError, DataError
from .knn import check_k


def plan(clips: pd.DataFrame, dataset: str, names: Sequence[str], ks: Sequence[int]) -> str:
    """A line for each fold: its training, validation and test clips, and its classes.

    Args:
        clips: the clip table.
        names: folds, as in `folds.split`.
        ks: numbers of neighbours that will be asked for.

    Raises:
        DataError: a fold without training or test clips.
        ConfigError: more neighbours than a fold has training clips.
    """
    lines = []
    for name in names:
        try:
            rows = folds.split(clips, name)
            check_k(ks, len(rows.train))
        except (ConfigError, DataError) as error:
            raise type(error)(f"datasets.{dataset}, fold {name}: {error}") from error
        counts = ", ".join(f"{len(part)} {kind}" for kind, part in zip(rows._fields, rows, strict=True) if len(part))
        lines.append(f"fold {name}: {counts}; {clips['label'].iloc[rows.train].nunique()} classes in train")
    return "\n".join(lines) + "\n"
