"""Which rows train, validate and test."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fungi_audio.datasets.folds import held_out, split
from fungi_audio.errors import DataError


def table(folds: list[int | None], splits: list[str | None] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fold": pd.array(folds, dtype="Int32"),
            "split": pd.array(splits or [None] * len(folds), dtype="str"),
        }
    )


@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1), st.integers(0, 4))
def test_folds(folds: list[int | None], fold: int) -> None:
    rest = {number for number in folds if number is not None} - {fold}
    if fold not in folds or not rest:
        with pytest.raises(DataError):
            split(table(folds), str(fold))
        return
    rows = split(table(folds), str(fold))
    assert [folds[row] for row in rows.test] == [fold] * folds.count(fold)
    assert {folds[row] for row in rows.train} == rest
    assert len(rows.valid) == 0
    assert len(rows.train) + len(rows.test) == len(folds) - folds.count(None)
    assert rows.train.tolist() == sorted(rows.train)


def test_split() -> None:
    rows = split(table([None] * 5, ["test", "train", None, "valid", "train"]), "split")
    assert [part.tolist() for part in rows] == [[1, 4], [3], [0]]


def test_messages() -> None:
    with pytest.raises(DataError, match=r"fold 7 has no test clips; the data has \[1, 2\]"):
        split(table([1, 2]), "7")
    with pytest.raises(DataError, match=r"fold 1 has no training clips; the data has \[1\]"):
        split(table([1, 1]), "1")
    with pytest.raises(DataError, match=r"fold split has no test clips; the data has \['train'\]"):
        split(table([None], ["train"]), "split")
    with pytest.raises(DataError, match="fold split has no test clips"):
        split(table([1, 2]), "split")


def test_a_dataset_with_test_clips_only() -> None:
    clips = table([None, None], ["test", "test"])
    assert held_out(clips, "split").tolist() == [0, 1]
    with pytest.raises(DataError, match="no training clips"):
        split(clips, "split")
