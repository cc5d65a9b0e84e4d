"""Layouts: the real archives, users' tables of every oddity, and what the index says about them."""

import os
import subprocess
import sys
import unicodedata
from csv import QUOTE_ALL, writer
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fungi_audio.audio.check import Finding
from fungi_audio.datasets import csv
from fungi_audio.datasets.index import index, wav_names
from fungi_audio.datasets.source import Source, locate
from fungi_audio.datasets.speech_commands import WORDS
from fungi_audio.datasets.synthetic import FOLDS, SOUNDS, synthesise
from fungi_audio.errors import ConfigError, DataError
from fungi_audio.files.archives import caseless, unpack

CLASSES = ["dog", "rooster", "rain"]


def write_clip(path: Path, seed: int = 0, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 16_000)), 16_000)


def write_csv(folder: Path, text: str | bytes, clips: tuple[str, ...] = ("a.wav", "b.wav")) -> Path:
    for clip in clips:
        write_clip(folder / clip)
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def of_csv(folder: Path, text: str | bytes, **options: object) -> pd.DataFrame:
    return index(write_csv(folder, text), "csv", options).clips


# --- ESC-50 -------------------------------------------------------------------------------------------


@pytest.fixture
def esc50(tmp_path: Path) -> Path:
    """Three classes (targets 0, 1, 10) in two folds, in ESC-50's layout."""
    root = tmp_path / "ESC-50-master"
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2):
        for target, category in zip((0, 1, 10), CLASSES, strict=True):
            name = f"{fold}-{target}-A-{target}.wav"
            write_clip(root / "audio" / name)
            lines.append(f"{name},{fold},{target},{category},True,{target},A")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def edit(folder: Path, old: str, new: str) -> Path:
    path = folder / "ESC-50-master" / "meta" / "esc50.csv"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode("utf-8", "surrogateescape")))
    return folder


def test_esc50(esc50: Path) -> None:
    tables = index(esc50, "esc50", {}, threads=2)
    clips = tables.clips
    assert clips["clip_id"].tolist() == sorted(clips["clip_id"])
    assert clips.iloc[1].to_dict() | {"split": None} == {
        "seconds": 0.1,
        "rate": 16_000,
        "channels": 1,
        "group": "1",
        "labels": ["rooster"],
        "clip_id": "1-1-A-1.wav",
        "path": "ESC-50-master/audio/1-1-A-1.wav",
        "wav": "1-1-A-1.wav",
        "label": "rooster",
        "mid": "/m/07rwj01",
        "target": 1,
        "fold": 1,
        "split": None,
    }
    assert clips["split"].isna().all()
    assert tables.classes.values.tolist() == [
        [0, "/m/07rwj00", "dog"],
        [1, "/m/07rwj01", "rooster"],
        [2, "/m/07rwj10", "rain"],
    ]
    assert tables.skipped.empty


def test_esc50_without_the_archives_own_folder(esc50: Path) -> None:
    assert len(index(esc50 / "ESC-50-master", "esc50", {}).clips) == 6


def test_tables_survive_parquet(esc50: Path, tmp_path: Path) -> None:
    tables = index(esc50, "esc50", {})
    paths = [tmp_path / name for name in ("clips.parquet", "classes.csv", "skipped.csv")]
    tables.write(*paths)
    found = pd.read_parquet(paths[0])
    assert [labels.tolist() for labels in found["labels"]] == tables.clips["labels"].tolist()
    pd.testing.assert_frame_equal(found.drop(columns="labels"), tables.clips.drop(columns="labels"))
    schema = pq.read_schema(paths[0])
    kinds = {
        "seconds": "double",
        "rate": "int32",
        "channels": "int32",
        "group": "string",
        "labels": "list<element: string>",
    }
    assert {name: str(schema.field(name).type).replace("large_", "") for name in kinds} == kinds
    assert paths[1].read_text().splitlines()[:2] == ["index,mid,display_name", "0,/m/07rwj00,dog"]
    assert paths[2].read_text() == "clip_id,reason\n"
    first = paths[0].read_bytes()
    tables.write(*paths)
    assert paths[0].read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("filename,fold", "file,fold", "lacks the column filename"),
        ("1-0-A-0.wav,1,0,dog", "1-0-A-0.wav,1,0,cat", "target 0 is"),
        ("rooster", "dog", "one category has two targets"),
        ("1-0-A-0.wav,1,", "1-0-A-0.wav,6,", "1-0-A-0.wav has the fold '6'; ESC-50 has 1 to 5"),
        ("1-0-A-0.wav,1,0,", "1-0-A-0.wav,1,50,", "has the target '50'"),
        ("1-0-A-0.wav,1,", "../audio/1-0-A-0.wav,1,", "is not a file name"),
        ("1-0-A-0.wav,1,0,dog", "1-0-A-0.wav,1,0,", "has an empty category"),
        ("1-0-A-0.wav", "1-1-A-1.wav", "is listed more than once"),
        ("1-0-A-0.wav", "missing.wav", "missing.wav does not exist"),
        ("dog", "d\udcffg", "line 2: byte 0xff is not UTF-8"),
    ],
)
@pytest.mark.fault("metadata", "ESC-50 with {old!r} turned into {new!r}", "refused, naming the place")
def test_esc50_of_another_shape(esc50: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        index(edit(esc50, old, new), "esc50", {})
    assert message in str(error.value)


# --- Speech Commands ----------------------------------------------------------------------------------


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    for word in ("yes", "backward", "_background_noise_"):
        for number in range(4):
            write_clip(tmp_path / word / f"abc_nohash_{number}.wav")
    (tmp_path / "validation_list.txt").write_text("yes/abc_nohash_1.wav\nbackward/abc_nohash_1.wav\n")
    (tmp_path / "testing_list.txt").write_bytes(b"\xef\xbb\xbfyes/abc_nohash_2.wav\r\nbackward/abc_nohash_2.wav\r\n")
    return tmp_path


def test_speech_commands(speech: Path) -> None:
    tables = index(speech, "speech_commands", {})
    clips = tables.clips
    assert clips["clip_id"].tolist() == [f"{word}/abc_nohash_{n}.wav" for word in ("backward", "yes") for n in range(4)]
    assert clips["wav"].tolist() == clips["path"].tolist() == clips["clip_id"].tolist()
    assert clips["split"].tolist() == ["train", "valid", "test", "train"] * 2
    assert clips["fold"].isna().all()
    assert clips["group"].unique().tolist() == ["abc"]
    assert tables.classes.values.tolist() == [[0, "/m/spcmd00", "backward"], [1, "/m/spcmd28", "yes"]]
    assert len(set(WORDS)) == 35


def test_speech_commands_lists_with_mistakes(speech: Path) -> None:
    (speech / "testing_list.txt").write_text("yes/abc_nohash_1.wav\n../outside.wav\nyes/gone.wav\n")
    with pytest.raises(DataError) as error:
        index(speech, "speech_commands", {})
    for line in (
        "yes/abc_nohash_1.wav is in validation_list.txt and in testing_list.txt",
        "../outside.wav is in testing_list.txt, but there is no such file",
        "yes/gone.wav is in testing_list.txt, but there is no such file",
    ):
        assert line in str(error.value)
    assert len(index(speech, "speech_commands", {}, skip=True).clips) == 7


def test_speech_commands_with_a_name_that_is_not_text(speech: Path, tmp_path: Path) -> None:
    (speech / "yes" / "abc_nohash_3.wav").rename(speech / "yes" / os.fsdecode(b"\xff.wav"))
    with pytest.raises(DataError, match="has a name that is not UTF-8"):
        index(speech, "speech_commands", {})
    tables = index(speech, "speech_commands", {}, skip=True)
    tables.write(*(tmp_path / file for file in ("clips.parquet", "classes.csv", "skipped.csv")))
    assert "udcff.wav" in (tmp_path / "skipped.csv").read_text()


def test_speech_commands_with_other_folders(speech: Path) -> None:
    write_clip(speech / "oui" / "abc.wav")
    with pytest.raises(DataError, match="oui is none of its words"):
        index(speech, "speech_commands", {})


# --- CSV ----------------------------------------------------------------------------------------------


def test_csv_with_everything(tmp_path: Path) -> None:
    """BOM, Windows line ends, quotes, commas and line ends in labels, extra columns, nested and odd names."""
    names = ['sub dir/ü, "x".flac', "-rf.ogg", "日本.mp3", "UP.WAV", "up.wav"]
    for name in names:
        write_clip(tmp_path / "data" / name)
    rows = [
        "label,extra,path,fold",
        '"a, ""b""\nc",1,"sub dir/ü, ""x"".flac",1',
        " spaced ,2,-rf.ogg,2",
        "spaced,3,日本.mp3,2.0",
        "",
        "spaced,4,UP.WAV, 1 ",
        "spaced,5,./up.wav,10",
    ]
    write_csv(tmp_path / "data", ("\ufeff" + "\r\n".join(rows)).encode(), ())
    tables = index(tmp_path / "data", "csv", {})
    clips = tables.clips.set_index("clip_id")
    assert set(clips.index) == {*names[:4], "./up.wav"}
    assert clips.loc[names[0], "label"] == 'a, "b"\nc'
    assert clips["fold"].to_dict() == {names[0]: 1, "-rf.ogg": 2, "日本.mp3": 2, "UP.WAV": 1, "./up.wav": 10}
    assert tables.classes["display_name"].tolist() == ['a, "b"\nc', "spaced"]
    assert clips.loc["-rf.ogg", "wav"] == "-rf.ogg.wav"
    assert len({caseless(wav) for wav in clips["wav"]}) == 5


def test_csv_splits_and_column_names(tmp_path: Path) -> None:
    text = "file,kind,part\na.wav,x,Training\nb.wav,y,dev\n"
    columns = {"path": "file", "label": "kind", "split": "part"}
    clips = of_csv(tmp_path, text, columns=columns)
    assert clips["split"].tolist() == ["train", "valid"]
    assert clips["fold"].isna().all()


def test_csv_with_folds_and_splits(tmp_path: Path) -> None:
    clips = of_csv(tmp_path, "path,label,fold,split\na.wav,x,1,\nb.wav,y,,test\n")
    assert clips["fold"].fillna(-1).tolist() == [1, -1]
    assert clips["split"].isna().tolist() == [True, False]


def test_csv_multilabel(tmp_path: Path) -> None:
    tables = index(write_csv(tmp_path, "path,label,fold\na.wav,x; y ;x,1\nb.wav,z,2\n"), "csv", {"multilabel": True})
    assert tables.clips["label"].tolist() == ["x;y", "z"]
    assert tables.clips["mid"].tolist() == ["/m/label0000,/m/label0001", "/m/label0002"]
    assert tables.clips["target"].tolist() == [0, 2]
    assert tables.clips["labels"].tolist() == [["x", "y"], ["z"]]
    assert of_csv(tmp_path, "path,label,fold\na.wav,x; y,1\nb.wav,z,2\n")["label"].tolist() == ["x; y", "z"]


def test_csv_labels_that_hold_a_semicolon(tmp_path: Path) -> None:
    """Without `multilabel` it is part of the name, in the list as in the text."""
    clips = of_csv(tmp_path, "path,label,fold\na.wav,x;y,1\nb.wav,x,2\n")
    assert clips["labels"].tolist() == [["x;y"], ["x"]]


def test_csv_groups(tmp_path: Path) -> None:
    text = "path,label,fold,group,speaker\na.wav,x,1,  caf\u00e9,s\nb.wav,x,2,cafe\u0301,\nc.wav,x,2,,\n"
    write_clip(tmp_path / "c.wav")
    clips = of_csv(tmp_path, text)
    assert clips["group"].fillna("-").tolist() == ["caf\u00e9", "caf\u00e9", "-"]
    clips = of_csv(tmp_path, text, columns={"group": "speaker"})
    assert clips["group"].fillna("-").tolist() == ["s", "-", "-"]
    assert of_csv(tmp_path, "path,label,fold\na.wav,x,1\n")["group"].isna().all()
    with pytest.raises(DataError, match=r"no column 'singer' \(columns.group\); found: path, label, fold, group"):
        of_csv(tmp_path, text, columns={"group": "singer"})


def test_what_the_source_files_are(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.full((11_025, 2), 0.5), 44_100)
    clips = index(write_csv(tmp_path, "path,label,fold\na.flac,x,1\nb.wav,x,2\n"), "csv", {}).clips
    assert clips[["seconds", "rate", "channels"]].values.tolist() == [[0.25, 44_100, 2], [0.1, 16_000, 1]]


def test_csv_in_a_subfolder(tmp_path: Path) -> None:
    write_clip(tmp_path / "audio" / "a.wav")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "m.csv").write_text("path,label,fold\n../audio/a.wav,x,1\n")
    clips = index(tmp_path, "csv", {"metadata": "meta/m.csv"}).clips
    assert clips[["path", "wav"]].values.tolist() == [["audio/a.wav", "audio/a.wav"]]


def test_csv_names_as_other_systems_spell_them(tmp_path: Path) -> None:
    """Composed in the table, decomposed on disk (macOS); backslashes (Windows)."""
    write_clip(tmp_path / unicodedata.normalize("NFD", "é.wav"))
    write_clip(tmp_path / "sub" / "b.wav")
    clips = of_csv(tmp_path, "path,label,fold\n\u00e9.wav,x,1\nsub\\b.wav,x,2\n")
    assert clips["path"].tolist() == ["sub/b.wav", "e\u0301.wav"]


def test_csv_labels_that_look_alike_are_one_class(tmp_path: Path) -> None:
    clips = of_csv(tmp_path, "path,label,fold\na.wav,caf\u00e9,1\nb.wav, cafe\u0301,2\n")
    assert clips["target"].tolist() == [0, 0]


@pytest.mark.parametrize("rest", [",,", ",,5,", ", , x"])
def test_csv_columns_without_a_name(tmp_path: Path, rest: str) -> None:
    """Spreadsheets export empty columns, pandas its index."""
    clips = of_csv(
        tmp_path, f",path,label,fold,{','.join([''] * rest.count(','))}\n0,a.wav,x,1{rest}\n1,b.wav,y,2{rest}\n"
    )
    assert clips[["path", "label", "fold"]].values.tolist() == [["a.wav", "x", 1], ["b.wav", "y", 2]]


@pytest.mark.fault("metadata", "a byte order mark in the middle of the table", "a problem of that clip, by name")
def test_csv_byte_order_mark_inside(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'\\ufeffb.wav' does not exist"):
        of_csv(tmp_path, "path,label,fold\na.wav,x,1\n\ufeffb.wav,x,2\n")


@pytest.mark.parametrize("name", ["../outside.csv", "/etc/passwd", "sub/../../outside.csv", "up/outside.csv"])
@pytest.mark.fault("metadata", "metadata: {name}", "refused; never read")
def test_csv_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = write_csv(tmp_path / "data", "path,label,fold\na.wav,x,1\n")
    (folder / "up").symlink_to("..")
    (folder / "sub").mkdir()
    (tmp_path / "outside.csv").write_text("path,label,fold\na.wav,x,1\n")
    with pytest.raises(DataError, match=f"metadata: {name} .*leads out of the dataset's folder"):
        index(folder, "csv", {"metadata": name})


@pytest.mark.fault("metadata", "a path through a link to a folder elsewhere", "a problem of that clip; never opened")
def test_csv_paths_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "secret.wav")
    lines = ["up/secret.wav,x,1", "sub/up/secret.wav,x,1", "up/data/b.wav,x,1"]
    folder = write_csv(tmp_path / "data", "\n".join(["path,label,fold", "a.wav,x,1", *lines]))
    (folder / "up").symlink_to("..")
    (folder / "sub").symlink_to(".")
    opened: list[str] = []
    monkeypatch.setattr("fungi_audio.datasets.index.check", lambda path: opened.append(path.name) or Finding())
    tables = index(folder, "csv", {}, skip=True)
    assert tables.clips["path"].tolist() == ["a.wav", "up/data/b.wav"]
    assert opened == ["a.wav", "b.wav"]
    assert tables.skipped["clip_id"].tolist() == ["sub/up/secret.wav", "up/secret.wav"]
    assert tables.skipped["reason"].tolist() == 2 * ["lies behind a link to a folder outside the dataset's folder"]


def test_links_that_are_followed(tmp_path: Path) -> None:
    """The dataset's folder itself, links to files in a store, links to folders inside the dataset."""
    write_clip(tmp_path / "store" / "5f" / "3a.wav")
    folder = write_csv(tmp_path / "real", "path,label,fold\nstored.wav,x,1\nalias/b.wav,y,2\n", ("audio/b.wav",))
    (folder / "stored.wav").symlink_to("../store/5f/3a.wav")
    (folder / "alias").symlink_to("audio")
    (tmp_path / "mine").symlink_to("real")
    for place in (folder, tmp_path / "mine"):
        assert index(place, "csv", {}).clips["path"].tolist() == ["alias/b.wav", "stored.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "lacks the column path, label; found: nothing"),
        (b"path;label;fold\na.wav;x;1\n", "found: path;label;fold"),
        (b"path,fold\na.wav,1\n", "lacks the column label"),
        (b"path,label\na.wav,x\n", "neither a column 'fold' nor 'split'"),
        (b"path,label,fold,label\na.wav,x,1,x\n", "more than one column label"),
        (b"path,label,fold\na.wav,x\nb.wav,x,y,1\n", "2 lines do not have 3 fields like the header: line 2, 3"),
        (b'path,label,fold\na.wav,"x,1\n', "not a valid CSV"),
        (b"path,label,fold\na.wav,caf\xe9,1\n", "line 2: byte 0xe9 is not UTF-8"),
        ("path,label,fold\na.wav,x,1\n".encode("utf-16"), "not UTF-8"),
        (b"path,label,fold\n", "none of the 0 clips"),
        (b"path,label,fold\nx.wav,x,1\ny.wav,x,1\n", "none of the 2 clips that the metadata lists is below"),
    ],
)
@pytest.mark.fault("metadata", "a CSV with {text!r}", "refused, naming the line")
def test_csv_that_cannot_be_read(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        of_csv(tmp_path, text)
    assert message in str(error.value)


PROBLEMS = {
    "missing.wav,x,1": "missing.wav does not exist",
    "../outside.wav,x,1": "../outside.wav points outside the dataset's folder",
    "/etc/passwd,x,1": "/etc/passwd points outside",
    "..\\outside.wav,x,1": "points outside",
    "a/../../outside.wav,x,1": "points outside",
    ",x,1": "'' has no path",
    ".,x,1": ". is not a file",
    "b.wav,,1": "b.wav has an empty label",
    "b.wav,x,one": "b.wav has the fold 'one'",
    "b.wav,x,-1": "b.wav has the fold '-1'",
    "b.wav,x,1.5": "has the fold '1.5'",
    "b.wav,x,99999999999": "has the fold '99999999999'",
    "b.wav,x,": "has no fold or split",
    "./a.wav,x,1": "a.wav is listed more than once",
    f"{'n' * 300}.wav,x,1": "cannot be read: File name too long",
    "empty.wav,x,1": "empty.wav is empty (0 bytes)",
    "text.wav,x,1": "text.wav cannot be decoded",
    '"two\nlines.wav",x,1': "'two\\nlines.wav' does not exist",
}


@pytest.mark.fault("metadata", "all of these at once", "one report of all, or left out with bad_clips: skip")
def test_all_problems_in_one_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_clip(tmp_path / "outside.wav")
    folder = write_csv(tmp_path / "data", "\n".join(["path,label,fold", "a.wav,x,1", *PROBLEMS]))
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("text")
    with pytest.raises(DataError) as error:
        index(folder, "csv", {}, threads=2)
    report = str(error.value)
    assert f"{len(PROBLEMS)} of {len(PROBLEMS) + 1} clips" in report
    assert len(report.splitlines()) == len(PROBLEMS) + 2
    for problem in PROBLEMS.values():
        assert problem in report
    tables = index(folder, "csv", {}, skip=True)
    assert len(tables.clips) == 1
    assert len(tables.skipped) == len(PROBLEMS)
    assert tables.skipped.set_index("clip_id").loc["empty.wav", "reason"] == "is empty (0 bytes)"
    assert "left out: empty.wav is empty" in caplog.text


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.fault("metadata", "a line {problem!r}", "a problem of that clip, by name")
def test_each_problem_alone(tmp_path: Path, problem: str) -> None:
    write_clip(tmp_path / "outside.wav")
    folder = write_csv(tmp_path / "data", f"path,label,fold\na.wav,x,1\n{problem}\n")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("text")
    with pytest.raises(DataError) as error:
        index(folder, "csv", {})
    assert PROBLEMS[problem] in str(error.value)
    assert "1 of 2 clips" in str(error.value)


def test_odd_clips_and_classes_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_csv(tmp_path, "path,label,fold\na.wav,x,1\nb.wav,y,2\nsilent.wav,y,2\n")
    soundfile.write(folder / "silent.wav", np.zeros(800), 8000)
    index(folder, "csv", {})
    assert "classes have a single clip:\n  x" in caplog.text
    assert "silent.wav: silent, 8000 samples a second" in caplog.text


def test_class_indices_do_not_depend_on_clips_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_csv(tmp_path, "path,label,fold\na.wav,y,1\nmissing.wav,x,2\nb.wav,z,2\n")
    tables = index(folder, "csv", {}, skip=True)
    assert tables.clips["target"].tolist() == [1, 2]
    assert tables.classes["display_name"].tolist() == ["x", "y", "z"]
    assert "classes have no usable clip:\n  x" in caplog.text


# --- fuzzing ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(st.sampled_from('path,label\n\r"\0ab1é;./ '), max_size=200)))
def test_fuzz_of_tables(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    head = b"path,label,fold\n" if isinstance(content, str) else b""
    data = head + (content.encode() if isinstance(content, str) else content)
    (folder / "metadata.csv").write_bytes(data)
    try:
        tables = index(folder, "csv", {}, skip=True)
    except DataError as error:
        assert str(error)
    else:
        raise AssertionError(f"there is no audio, but {len(tables.clips)} clips")


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cell, cell), max_size=6))
def test_whatever_a_csv_writer_writes_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer(file, quoting=QUOTE_ALL).writerows([("path", "label"), *rows])
    expected = [row for row in rows if "".join(row).strip()]
    assert [(line["path"], line["label"]) for line in csv.read_table(path, "path", "label")] == expected


name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=100)


@given(st.lists(st.lists(name, min_size=1, max_size=3).map("/".join), unique=True, max_size=8))
def test_wav_names_are_unique_and_inside(clip_ids: list[str]) -> None:
    names = wav_names(clip_ids)
    assert len({caseless(wav) for wav in names}) == len(clip_ids)
    for wav in names:
        assert wav.endswith(".wav")
        assert not wav.startswith("/")
        assert ".." not in wav.split("/")
        assert all(len(part.encode()) <= 255 for part in wav.split("/"))


# --- wrong layouts, sources, synthesis, real archives -------------------------------------------------


@pytest.mark.parametrize("layout", ["esc50", "speech_commands", "csv"])
@pytest.mark.fault("metadata", "a folder that is not in the layout {layout}", "refused, saying what it holds")
def test_a_folder_of_another_layout(tmp_path: Path, layout: str) -> None:
    (tmp_path / "data" / "holiday").mkdir(parents=True)
    with pytest.raises(DataError, match=rf"not in the layout {layout}: no .* It holds: holiday\. Correct"):
        index(tmp_path / "data", layout, {})
    with pytest.raises(DataError, match="missing is not a folder"):
        index(tmp_path / "missing", layout, {})


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my data").mkdir()
    Path("data.tar.gz").touch()
    Path("data.txt").touch()

    def of(source: str, **more: object) -> Source:
        return locate("d", {"layout": "csv", "source": source}, **more)  # type: ignore[arg-type]

    assert locate("d", {"layout": "synthetic"}) == Source("synthetic", "")
    assert of("my data") == of("file:my data") == Source("folder", "my data")
    assert of("data.tar.gz") == Source("archive", "data.tar.gz", "data.tar.gz")
    url = "https://example.org/a%20b/../x%2F..%2Fy.zip?dl=1"
    assert of(url) == Source("url", url, "x_.._y.zip")
    assert of("https://example.org/").name == "archive"
    assert of("http://example.org/x.zip", allow_http=True).kind == "url"
    for source, message in {
        "my dara": r"datasets.d.source: my dara does not exist; did you mean my data\?",
        "my dara/x/y": r"did you mean my data\?",
        "nothing/like/it": "does not exist",
        "data.txt": "neither a folder nor an archive",
        "http://example.org/x.zip": "allow_http",
        "ftp://example.org/x.zip": "only https",
    }.items():
        with pytest.raises(ConfigError, match=message):
            of(source)
    with pytest.raises(ConfigError, match="source is missing"):
        locate("d", {"layout": "csv"})


def test_synthesis(tmp_path: Path) -> None:
    synthesise(tmp_path / "a", 100, seed=1, threads=2)
    synthesise(tmp_path / "b", 60, seed=1)
    synthesise(tmp_path / "c", 60, seed=2)
    tables = index(tmp_path / "a", "synthetic", {})
    assert tables.clips.groupby(["label", "fold"]).size().tolist() == [2] * len(SOUNDS) * FOLDS
    content = {folder: [path.read_bytes() for path in sorted((tmp_path / folder).glob("*.wav"))] for folder in "abc"}
    assert content["a"][:60] == content["b"], "a clip does not depend on how many there are"
    assert not set(content["b"]) & set(content["c"])
    assert len(set(content["a"])) == 100
    infos = [soundfile.info(path) for path in sorted((tmp_path / "a").glob("*.wav"))]
    assert {info.samplerate for info in infos} == {16_000, 44_100}
    assert all(abs(info.duration - 1) < 0.001 for info in infos)


@pytest.mark.parametrize(
    ("script", "option", "layout", "count"),
    [
        ("make_esc50_archive.py", "--clips-per-class-per-fold", "esc50", 50),
        ("make_speech_commands_archive.py", "--per-speaker-per-digit", "speech_commands", 60),
    ],
)
def test_real_archives(shared: Path, tmp_path: Path, script: str, option: str, layout: str, count: int) -> None:
    archive = tmp_path / "archive"
    made = subprocess.run(
        [sys.executable, shared / "data" / script, "--out", archive, option, "1"], capture_output=True, text=True
    )
    if "No module named" in made.stderr:
        pytest.skip(f"{script} needs a module that is not installed: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    unpack(archive, tmp_path / "raw", 1)
    tables = index(tmp_path / "raw", layout, {}, threads=2)
    assert len(tables.clips) == count
    assert len(tables.classes) == 10
    assert tables.clips["target"].value_counts().tolist() == [count // 10] * 10
    if layout == "esc50":
        assert tables.classes["mid"].tolist()[:3] == ["/m/07rwj00", "/m/07rwj01", "/m/07rwj10"]
        assert tables.clips["fold"].value_counts().tolist() == [10] * 5
    else:
        assert tables.classes["display_name"].tolist()[:3] == ["five", "zero", "two"]
        assert tables.clips["split"].value_counts().to_dict() == {"train": 40, "valid": 10, "test": 10}
