"""SSAST's datafiles and where the audio lies."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from fungi_audio.datasets.datafiles import audio_root, place, write_datafiles
from fungi_audio.errors import DataError, StorageError

CLIPS = pd.DataFrame(
    {
        "clip_id": ["a.wav", "sub/b.flac", "c.wav"],
        "wav": ["a.wav", "sub/b.flac.wav", "ü c.wav"],
        "mid": ["/m/07rwj00", "/m/07rwj01,/m/07rwj02", "/m/07rwj00"],
        "fold": pd.array([1, 2, 2], dtype="Int32"),
        "split": pd.array(["train", "valid", "test"], dtype="str"),
    }
)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    for wav in CLIPS["wav"]:
        (folder / wav).parent.mkdir(parents=True, exist_ok=True)
        (folder / wav).write_text(wav)
    return folder


def test_folds(tmp_path: Path) -> None:
    paths = {"train": tmp_path / "1_train.json", "test": tmp_path / "1_eval.json"}
    write_datafiles(CLIPS, "1", "/scratch/esc50", paths)
    assert json.loads(paths["test"].read_text()) == {"data": [{"wav": "/scratch/esc50/a.wav", "labels": "/m/07rwj00"}]}
    assert json.loads(paths["train"].read_text(encoding="utf-8")) == {
        "data": [
            {"wav": "/scratch/esc50/sub/b.flac.wav", "labels": "/m/07rwj01,/m/07rwj02"},
            {"wav": "/scratch/esc50/ü c.wav", "labels": "/m/07rwj00"},
        ]
    }


def test_split(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("train", "valid", "test")}
    write_datafiles(CLIPS, "split", "r", paths)
    wavs = {name: [item["wav"] for item in json.loads(path.read_text())["data"]] for name, path in paths.items()}
    assert wavs == {"train": ["r/a.wav"], "valid": ["r/sub/b.flac.wav"], "test": ["r/ü c.wav"]}


def test_a_fold_that_is_not_in_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fold 3 has no test clips; the data has \[1, 2\]"):
        write_datafiles(CLIPS, "3", "r", {"train": tmp_path / "t.json"})
    assert not (tmp_path / "t.json").exists()


def test_audio_root() -> None:
    assert audio_root("esc50", None) == "resources/audio/esc50"
    assert audio_root("esc50", "/scratch/me") == "/scratch/me/esc50"
    assert audio_root("esc50", "~/audio") == f"{Path.home()}/audio/esc50"
    assert audio_root("esc50", None, 32_000) == "resources/audio-32000/esc50"
    assert audio_root("esc50", "/scratch/me", 32_000) == "/scratch/me/audio-32000/esc50"


def test_audio_of_two_rates_lies_apart(audio: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    found = [place(CLIPS, audio, root, rate=rate).relative_to(root) for rate in (16_000, 8_000)]
    assert found == [Path("audio"), Path("audio-8000/audio")]
    assert (tmp_path / "root/audio-8000/audio/sub/b.flac.wav").read_text() == "sub/b.flac.wav"


def test_place(audio: Path, tmp_path: Path) -> None:
    root = place(CLIPS, audio, str(tmp_path / "scratch" / "new"), threads=2)
    assert root == tmp_path / "scratch" / "new" / audio.name
    for wav in CLIPS["wav"]:
        assert (root / wav).read_text() == wav
        assert (root / wav).samefile(audio / wav)


def test_place_on_another_file_system(audio: Path, small_disk: Path) -> None:
    root = place(CLIPS, audio, str(small_disk))
    copies = {wav: (root / wav).stat().st_ino for wav in CLIPS["wav"]}
    assert all(not (root / wav).samefile(audio / wav) for wav in copies)
    (audio / "a.wav").write_text("another")
    os.utime(audio / "a.wav", ns=(1, 1))
    assert place(CLIPS, audio, str(small_disk)) == root
    assert (root / "a.wav").read_text() == "another"
    assert (root / "ü c.wav").stat().st_ino == copies["ü c.wav"], "what is there already is left alone"


def test_place_where_it_is(audio: Path) -> None:
    assert place(CLIPS, audio, None) == audio
    assert place(CLIPS, audio, str(audio.parent)) == audio
    assert sorted(path.name for path in audio.iterdir()) == ["a.wav", "sub", "ü c.wav"]


def test_a_root_that_cannot_be_written(audio: Path, tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "sub", Path("/proc/nothing"), tmp_path / ("n" * 300)):
        with pytest.raises(StorageError, match="data_root: cannot bring the audio to"):
            place(CLIPS, audio, str(root))
    (audio / "a.wav").write_bytes(os.urandom(300_000))
    with pytest.raises(StorageError, match="No space left on device"):
        place(CLIPS, audio, str(small_disk))


def test_a_file_is_missing(audio: Path, tmp_path: Path) -> None:
    (audio / "a.wav").unlink()
    with pytest.raises(StorageError, match=r"a\.wav.*No such file"):
        place(CLIPS, audio, str(tmp_path / "scratch"))
