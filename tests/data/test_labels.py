"""Labels of clips and of time steps, from lists and from text."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from fungi_audio.datasets import labels
from fungi_audio.datasets.labels import Labels
from fungi_audio.errors import DataError

SECONDS = np.arange(10, dtype=np.float32) * np.float32(0.1)


def table(label: list[str | None], lists: list[list[str]] | None = None) -> pd.DataFrame:
    found = pd.DataFrame({"clip_id": [f"c{number}" for number in range(len(label))], "label": label})
    return found if lists is None else found.assign(labels=lists)


def test_text_of_older_files() -> None:
    several = labels.read(table(["rain;dog", "cat", "dog"]), multilabel=True)
    assert several.classes == ["cat", "dog", "rain"]
    assert several.clip.tolist() == [[False, True, True], [True, False, False], [False, True, False]]
    single = labels.read(table(["rain;dog", "cat", "cat"]), multilabel=False)
    assert (single.classes, single.clip.sum(axis=0).tolist()) == (["cat", "rain;dog"], [2, 1])


def test_lists_are_not_taken_apart() -> None:
    found = labels.read(table(["a;b;c", "c"], [["a;b", "c"], ["c"]]), multilabel=True)
    assert (found.classes, found.clip.tolist()) == (["a;b", "c"], [[True, True], [False, True]])


def test_the_same_as_scikit_learn() -> None:
    random = np.random.default_rng(0)
    lists = [
        [str(name) for name in random.choice(list("vwxyzÄä"), size, replace=False)]
        for size in random.integers(1, 6, 200)
    ]
    found = labels.read(table([";".join(names) for names in lists]), multilabel=True)
    theirs = MultiLabelBinarizer().fit(lists)
    assert found.classes == theirs.classes_.tolist()
    assert np.array_equal(found.clip, theirs.transform(lists))


def test_classes_in_a_given_order() -> None:
    assert labels.read(table(["x", "y"]), False, ["y", "z", "x"]).clip.tolist() == [
        [False, False, True],
        [True, False, False],
    ]


@pytest.mark.parametrize("missing", [None, "", float("nan")])
@pytest.mark.fault("labels", "a clip without a label", "refused, naming the clip")
def test_clips_without_labels(missing: str | None) -> None:
    with pytest.raises(DataError, match="2 clips have no label, for example c1"):
        labels.read(table(["x", missing, missing]), multilabel=False)


@pytest.mark.fault("labels", "a label that is no class", "refused, naming the clip and the label")
def test_unknown_labels() -> None:
    with pytest.raises(DataError, match="clip c1 has the label 'z', which is no class of the dataset"):
        labels.read(table(["x", "x;z"]), True, ["x", "y"])


def steps(begin: float, end: float, **roundings: str) -> list[int]:
    events = pd.DataFrame({"row": [0], "class": ["a"], "onset": [begin], "offset": [end]})
    return np.flatnonzero(Labels(["a"], np.ones((1, 1), bool), events).frames([0], SECONDS, **roundings)[0]).tolist()


def test_events_cover_what_they_touch() -> None:
    assert steps(0.3, 0.6) == [3, 4, 5]  # 0.3 / 0.1 is less than 3 in floating point, and less still in float32
    assert steps(0.36, 0.61) == [3, 4, 5, 6]
    assert steps(0.36, 0.61, onset="round", offset="round") == [4, 5]
    assert steps(0.36, 0.61, onset="ceil", offset="floor") == [4, 5]
    assert steps(0.42, 0.43) == [4]
    assert steps(0.42, 0.43, onset="round", offset="round") == []
    assert steps(-1.0, 0.05) == [0] and steps(0.95, 7.0) == [9] and steps(3.0, 4.0) == [] and steps(-2.0, -1.0) == []


def test_time_steps_of_an_hour_in_float32() -> None:
    seconds = np.arange(360_000, dtype=np.float32) * np.float32(0.01)
    events = pd.DataFrame({"row": 0, "class": "a", "onset": [10.0, 3000.0], "offset": [10.5, 3001.0]})
    found = Labels(["a"], np.ones((1, 1), bool), events).frames([0], seconds)[0, :, 0]
    assert found.sum() == 150
    assert found[1000:1050].all() and found[300_000:300_100].all()


def test_rows_and_classes_of_events() -> None:
    columns = {"row": [2, 0, 2], "class": ["b", "a", "a"], "onset": [0.0, 0.5, 0.8], "offset": [0.2, 0.6, 0.9]}
    found = Labels(["a", "b"], np.ones((3, 2), bool), pd.DataFrame(columns)).frames(np.array([2, 1, 2, 0]), SECONDS)
    assert found.shape == (4, 10, 2)
    assert np.argwhere(found[0]).tolist() == [[0, 1], [1, 1], [8, 0]]
    assert np.array_equal(found[0], found[2]) and not found[1].any()
    assert np.argwhere(found[3]).tolist() == [[5, 0]]
    whole = Labels(["a", "b"], np.ones((3, 2), bool), pd.DataFrame(columns)).frames([0], SECONDS[:1])
    assert whole.tolist() == [[[True, False]]]


@pytest.mark.fault("labels", "time steps of a dataset without times; an event of no class", "refused")
def test_events_that_are_not_there() -> None:
    with pytest.raises(DataError, match="does not say when its labels begin and end"):
        Labels(["a"], np.ones((1, 1), bool)).frames([0], SECONDS)
    events = pd.DataFrame({"row": [0], "class": ["z"], "onset": [0.0], "offset": [1.0]})
    with pytest.raises(DataError, match="events have the label 'z'"):
        Labels(["a"], np.ones((1, 1), bool), events).frames([0], SECONDS)
