"""Which clips fine-tuning trains, validates and tests on."""

import pandas as pd
import pytest

from fungi_audio.datasets.labels import read
from fungi_audio.errors import DataError
from fungi_audio.training.labelled import fold_rows


def table_of(labels: list[str]) -> pd.DataFrame:
    fold = [1] * (len(labels) - 2) + [2] * 2
    return pd.DataFrame(
        {"clip_id": [f"c{i}" for i in range(len(labels))], "label": labels, "fold": fold, "split": None}
    )


def rows_of(labels: list[str], classes: list[str], selection: str, multilabel: bool) -> list[int]:
    table = table_of(labels)
    targets = read(table, multilabel, classes).clip
    return [len(rows) for rows in fold_rows(table, targets, "2", selection, 1, multilabel)]


def test_validation_clips() -> None:
    single = ["a", "a", "a", "b", "b", "b", "b", "a", "b", "a"]
    assert rows_of(single, ["a", "b"], "validation", False) == [6, 2, 2]
    unlike = ["a", "b", "a;b", "c", "a;c", "b;c", "a;b;c", "d", "a;d", "b;d", "a", "b"]  # no two training clips alike
    assert rows_of(unlike, ["a", "b", "c", "d"], "validation", True) == [8, 2, 2]
    with pytest.raises(DataError, match="every class has one training clip"):
        rows_of(["a", "b", "c", "a", "b"], ["a", "b", "c"], "validation", False)
    for rule in ("validation", "test"):
        with pytest.raises(DataError, match="mAP is not defined"):
            rows_of(["a", "a", "a", "a", "a", "a"], ["a", "b"], rule, True)
    assert rows_of(["a", "b", "c", "a", "b"], ["a", "b", "c"], "average", False) == [3, 0, 2]
    with pytest.raises(DataError, match="clip c1 has the label 'x', which is no class"):
        rows_of(["a", "x", "a", "a"], ["a"], "average", False)
