"""Unlabelled folders of audio become clip tables, LibriSpeech's tree among them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from fungi_audio.datasets.index import index
from fungi_audio.errors import DataError


def test_librispeech_tree(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    names = ["train/84/121123/84-121123-0001.flac", "train/84/121550/84-121550-0000.flac", "extra.WAV"]
    for name in [*names, ".hidden/x.wav", "._junk.wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound, 16_000, format="FLAC" if name.endswith("flac") else "WAV")
    (tmp_path / "train" / "84" / "84-121123.trans.txt").write_text("84-121123-0001 WORDS\n")
    tables = index(tmp_path, "folder", {})
    assert tables.clips["clip_id"].tolist() == sorted(names)
    assert tables.clips["label"].tolist() == ["", "", ""] and tables.clips["target"].tolist() == [-1, -1, -1]
    assert tables.clips["fold"].isna().all() and tables.clips["split"].isna().all()
    assert tables.classes.empty and len(set(tables.clips["wav"])) == 3
    assert tables.clips["seconds"].tolist() == [1.0, 1.0, 1.0]
    tables.write(*(tmp_path / name for name in ("clips.parquet", "classes.csv", "skipped.csv")))
    labels = pq.read_table(tmp_path / "clips.parquet")["labels"]
    assert (labels.type.value_type, labels.to_pylist()) == (pa.string(), [[], [], []])


def test_nothing_to_hear(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no audio"):
        index(tmp_path, "folder", {})
