"""Features in Parquet: the format other programs read, and what must not be read silently."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fungi_audio.errors import DataError, NumericalError
from fungi_audio.files import features

METADATA = {"dataset": "demo", "feature": "kl", "settings": {"temperature": 15}, "device": "cpu"}


def write(path: Path, names: list[str], values: np.ndarray, **metadata: Any) -> None:
    clips = pd.DataFrame({"clip_id": names, "label": "dog", "fold": 1, "split": None})
    features.write(path, clips, values, {**METADATA, **metadata})


def test_format_is_the_documented_one(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    columns = {"clip_id": ["b", "ä"], "label": ["dog", "cat"], "fold": [1, None], "split": [None, "test"], "wav": "x"}
    features.write(path, pd.DataFrame(columns).assign(labels=[["dog"], []]), np.ones((2, 3)), METADATA)
    schema = pq.read_schema(path)
    assert dict(zip(schema.names, map(str, schema.types), strict=True)) == {
        "clip_id": "string",
        "label": "string",
        "fold": "int32",
        "split": "string",
        "labels": "list<element: string>",
        "feature": "fixed_size_list<element: float>[3]",
    }
    assert json.loads(schema.metadata[b"fungi_audio"]) == METADATA
    table = pd.read_parquet(path)
    assert table["feature"].iloc[1].tolist() == [1, 1, 1]
    clips, _, _ = features.read([path])
    assert [names.tolist() for names in clips["labels"]] == [["dog"], []]
    assert features.same_clips({"kl": clips, "simclr": clips.drop(columns="labels")}) is clips


def test_parts_of_an_older_version_have_no_lists_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["a"], np.ones((1, 1)))
    clips = pd.DataFrame({"clip_id": ["b"], "label": "dog", "fold": 1, "split": None, "labels": [["dog"]]})
    features.write(tmp_path / "b.parquet", clips, np.ones((1, 1)), METADATA)
    assert "labels" not in features.read(tmp_path)[0]
    assert "labels" in features.read([tmp_path / "b.parquet"])[0]


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 8))
    names = [f"clip-{i}" for i in range(20)]
    write(tmp_path / "a.parquet", names, values, b=1, a=2)
    write(tmp_path / "b.parquet", names, values, a=2, b=1)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, min_size=1, max_size=20),
    cut=st.integers(0, 20),
)
def test_parts_come_back_sorted_and_aligned(
    names: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    values = np.arange(len(names) * 2, dtype=np.float32).reshape(-1, 2)
    parts = []
    for i, rows in enumerate([slice(0, cut), slice(cut, None)]):
        parts.append(folder / f"part-{i}.parquet")
        write(parts[-1], names[rows], values[rows])
    clips, read, metadata = features.read(parts)
    assert clips["clip_id"].tolist() == sorted(names)
    assert read.tolist() == [values[names.index(name)].tolist() for name in sorted(names)]
    assert read.dtype == np.float32
    assert metadata == METADATA
    assert clips["fold"].tolist() == [1] * len(names)
    assert clips["split"].isna().all()


def test_a_folder_of_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "ROW_GROUP", 3)
    values = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    write(tmp_path / "part-0.parquet", [f"{i}" for i in range(7)], values[:7])
    write(tmp_path / "part-1.parquet", [f"{i}" for i in range(7, 10)], values[7:])
    _, read, _ = features.read(tmp_path)
    np.testing.assert_array_equal(read, values)


@pytest.mark.fault("features", "a NaN", "refused, naming the clip; nothing is written")
def test_not_finite_names_the_clip(tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match="b"):
        write(tmp_path / "x.parquet", ["a", "b"], np.array([[1.0], [np.nan]]))
    assert not list(tmp_path.iterdir())


def test_repeated_clip_is_refused_when_written_and_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unique.*dog\.wav"):
        write(tmp_path / "x.parquet", ["dog.wav", "dog.wav"], np.ones((2, 1)))
    for part in "ab":
        write(tmp_path / f"{part}.parquet", ["dog.wav"], np.ones((1, 1)))
    with pytest.raises(DataError, match=r"dog\.wav.*shards"):
        features.read(tmp_path)


@pytest.mark.fault("features", "parts of different settings", "refused, naming the setting")
def test_parts_of_different_settings_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.parquet", ["a"], np.ones((1, 1)))
    write(tmp_path / "b.parquet", ["b"], np.ones((1, 1)), device="cuda")
    features.read(tmp_path)
    assert "device is 'cuda'" in caplog.text
    write(tmp_path / "c.parquet", ["c"], np.ones((1, 1)), settings={"temperature": 2})
    with pytest.raises(DataError, match=r"settings is .*'temperature': 2.*c\.parquet"):
        features.read(tmp_path)
    write(tmp_path / "c.parquet", ["c"], np.ones((1, 2)))
    with pytest.raises(DataError, match="dimensions is 2"):
        features.read(tmp_path)


@pytest.mark.fault("features", "foreign and broken Parquet files", "refused by name")
def test_foreign_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no feature file"):
        features.read(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="lacks the columns clip_id"):
        features.read(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"x\.parquet: not a readable Parquet file"):
        features.read(tmp_path)
    with pytest.raises(DataError, match=r"absent\.parquet"):
        features.read([tmp_path / "absent.parquet"])


def test_same_clips() -> None:
    clips = pd.DataFrame({"clip_id": ["a", "b"], "label": ["x", "y"], "fold": [1, 2], "split": [None, None]})
    assert features.same_clips({"kl": clips, "simclr": clips.copy()}) is clips
    with pytest.raises(DataError, match=r"'simclr' lacks 1 clips that 'kl' has: b"):
        features.same_clips({"kl": clips, "simclr": clips.iloc[:1]})
    with pytest.raises(DataError, match=r"'kl' lacks 1 clips that 'simclr' has: b"):
        features.same_clips({"kl": clips.iloc[:1], "simclr": clips})
    with pytest.raises(DataError, match="disagree on label, fold or split of b"):
        features.same_clips({"kl": clips, "simclr": clips.assign(label=["x", "z"])})
